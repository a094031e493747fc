//! zbus from peer to peer, with no bus between.

use std::io;
use std::os::unix::net::UnixStream;

use ::zbus::{Connection, Guid, connection, interface, proxy};
use serde::{Deserialize, Serialize};
use serde_bytes::{ByteBuf, Bytes};
use tokio::net::UnixListener;

use super::{Listening, Peer};
use crate::load::{Calls, Load, runtime, tasks};
use crate::message::{Message, Small, numbered_bytes, same_ends};
use crate::scenario::Scenario;

/// [`Small`] as D-Bus has it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, ::zbus::Type)]
struct SmallMessage {
    number: u64,
    size: u64,
    place: (f64, f64, f64, f64, f64),
    flags: (u16, u16),
}

impl Message for SmallMessage {
    fn numbered(number: u64, _: usize) -> Self {
        let Small {
            number,
            size,
            place,
            flags,
        } = Small::numbered(number);
        SmallMessage {
            number,
            size,
            place: place.into(),
            flags,
        }
    }

    fn is(&self, other: &Self) -> bool {
        self == other
    }
}

impl Message for ByteBuf {
    fn numbered(number: u64, size: usize) -> Self {
        numbered_bytes(number, size).into()
    }

    fn is(&self, other: &Self) -> bool {
        same_ends(self, other)
    }
}

const PATH: &str = "/rivals/Echo";

struct Echo;

#[interface(name = "rivals.Echo1")]
impl Echo {
    async fn small(&self, message: SmallMessage) -> SmallMessage {
        message
    }

    async fn bytes(&self, message: ByteBuf) -> ByteBuf {
        message
    }
}

#[proxy(
    interface = "rivals.Echo1",
    default_service = "rivals.Echo",
    default_path = "/rivals/Echo"
)]
trait Echo {
    async fn small(&self, message: &SmallMessage) -> ::zbus::Result<SmallMessage>;
    async fn bytes(&self, message: &Bytes) -> ::zbus::Result<ByteBuf>;
}

impl Calls<SmallMessage> for EchoProxy<'static> {
    async fn call(&self, message: &SmallMessage) -> io::Result<SmallMessage> {
        self.small(message).await.map_err(io::Error::other)
    }
}

impl Calls<ByteBuf> for EchoProxy<'static> {
    async fn call(&self, message: &ByteBuf) -> io::Result<ByteBuf> {
        let reply = self.bytes(Bytes::new(message)).await;
        reply.map_err(io::Error::other)
    }
}

/// zbus.
#[derive(Debug)]
pub(crate) struct Zbus;

/// The server's end of a connection, which lives as long as it is kept.
async fn serve_one(stream: UnixStream, guid: Guid<'static>) -> ::zbus::Result<Connection> {
    connection::Builder::unix_stream(stream)
        .server(guid)
        .p2p()
        .serve_at(PATH, Echo)
        .build()
        .await
}

async fn connect_one(address: &str) -> ::zbus::Result<EchoProxy<'static>> {
    let connection = connection::Builder::address(format!("unix:path={address}").as_str())
        .p2p()
        .build()
        .await?;
    EchoProxy::new(&connection).await
}

impl Peer for Zbus {
    fn name(&self) -> &'static str {
        "zbus"
    }

    fn package(&self) -> Option<&'static str> {
        Some("zbus")
    }

    fn how(&self) -> &'static str {
        "peer to peer on tokio, `interface` and `proxy`; bytes are `serde_bytes`; outstanding requests are tasks that \
         share the proxy"
    }

    fn serve(
        &self,
        scenario: &Scenario,
        address: &str,
        listening: Listening<'_>,
    ) -> io::Result<()> {
        runtime(scenario)?.block_on(async {
            let listener = UnixListener::bind(address)?;
            listening.say(address)?;
            let guid = Guid::generate();
            let mut connections = Vec::new();
            loop {
                let (stream, _) = listener.accept().await?;
                let connection = serve_one(stream.into_std()?, guid.clone()).await;
                connections.push(connection.map_err(io::Error::other)?);
            }
        })
    }

    fn connect(&self, scenario: &Scenario, address: &str) -> io::Result<Box<dyn Load>> {
        let runtime = runtime(scenario)?;
        let clients = runtime
            .block_on(async {
                let mut clients = Vec::new();
                for _ in 0..scenario.connections {
                    clients.push(connect_one(address).await?);
                }
                Ok(clients)
            })
            .map_err(|error: ::zbus::Error| io::Error::other(error))?;
        Ok(match scenario.size {
            Scenario::SMALL => tasks::<SmallMessage, _>(scenario, runtime, &clients),
            _ => tasks::<ByteBuf, _>(scenario, runtime, &clients),
        })
    }
}
