//! tonic over a Unix socket, with prost.

use std::io;

use ::tonic::transport::{Channel, Endpoint, Server};
use ::tonic::{Request, Response, Status, async_trait};
use bytes::Bytes;
use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;

use super::{Listening, Peer};
use crate::load::{Calls, Load, runtime, tasks};
use crate::message::{Message, Small};
use crate::scenario::Scenario;
use generated::echo_client::EchoClient;
use generated::echo_server::{Echo, EchoServer};

#[allow(unreachable_pub, missing_debug_implementations)]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/rivals.Echo.rs"));
}

/// [`Small`] as a protocol buffer. Numbers of a fixed size, as all of them are large.
#[derive(Clone, Copy, PartialEq, prost::Message)]
struct SmallMessage {
    #[prost(fixed64, tag = "1")]
    number: u64,
    #[prost(fixed64, tag = "2")]
    size: u64,
    #[prost(double, tag = "3")]
    place_0: f64,
    #[prost(double, tag = "4")]
    place_1: f64,
    #[prost(double, tag = "5")]
    place_2: f64,
    #[prost(double, tag = "6")]
    place_3: f64,
    #[prost(double, tag = "7")]
    place_4: f64,
    #[prost(uint32, tag = "8")]
    first_flags: u32,
    #[prost(uint32, tag = "9")]
    second_flags: u32,
}

impl Message for SmallMessage {
    fn numbered(number: u64, _: usize) -> Self {
        let Small {
            number,
            size,
            place: [place_0, place_1, place_2, place_3, place_4],
            flags: (first_flags, second_flags),
        } = Small::numbered(number);
        SmallMessage {
            number,
            size,
            place_0,
            place_1,
            place_2,
            place_3,
            place_4,
            first_flags: first_flags.into(),
            second_flags: second_flags.into(),
        }
    }

    fn is(&self, other: &Self) -> bool {
        self == other
    }
}

#[derive(Clone, PartialEq, prost::Message)]
struct BytesMessage {
    #[prost(bytes = "bytes", tag = "1")]
    bytes: Bytes,
}

impl Message for BytesMessage {
    fn numbered(number: u64, size: usize) -> Self {
        BytesMessage {
            bytes: Bytes::numbered(number, size),
        }
    }

    fn is(&self, other: &Self) -> bool {
        self.bytes.is(&other.bytes)
    }
}

struct Service;

#[async_trait]
impl Echo for Service {
    async fn small(
        &self,
        request: Request<SmallMessage>,
    ) -> Result<Response<SmallMessage>, Status> {
        Ok(Response::new(request.into_inner()))
    }

    async fn bytes(
        &self,
        request: Request<BytesMessage>,
    ) -> Result<Response<BytesMessage>, Status> {
        Ok(Response::new(request.into_inner()))
    }
}

impl Calls<SmallMessage> for EchoClient<Channel> {
    async fn call(&self, message: &SmallMessage) -> io::Result<SmallMessage> {
        // A call takes the client by `&mut`; a clone is what its documentation calls cheap.
        let reply = self.clone().small(*message).await;
        Ok(reply.map_err(io::Error::other)?.into_inner())
    }
}

impl Calls<BytesMessage> for EchoClient<Channel> {
    async fn call(&self, message: &BytesMessage) -> io::Result<BytesMessage> {
        let reply = self.clone().bytes(message.clone()).await;
        Ok(reply.map_err(io::Error::other)?.into_inner())
    }
}

/// tonic.
#[derive(Debug)]
pub(crate) struct Tonic;

impl Peer for Tonic {
    fn name(&self) -> &'static str {
        "tonic"
    }

    fn package(&self) -> Option<&'static str> {
        Some("tonic")
    }

    fn how(&self) -> &'static str {
        "`Server` and `Channel` with their defaults over a Unix socket, and prost; bytes are `bytes::Bytes`; \
         outstanding requests are tasks with clones of the client"
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
            Server::builder()
                .add_service(EchoServer::new(Service))
                .serve_with_incoming(UnixListenerStream::new(listener))
                .await
                .map_err(io::Error::other)
        })
    }

    fn connect(&self, scenario: &Scenario, address: &str) -> io::Result<Box<dyn Load>> {
        let runtime = runtime(scenario)?;
        let clients = runtime
            .block_on(async {
                let endpoint = Endpoint::from_shared(format!("unix://{address}"))?;
                let mut clients = Vec::new();
                for _ in 0..scenario.connections {
                    clients.push(EchoClient::new(endpoint.connect().await?));
                }
                Ok(clients)
            })
            .map_err(|error: ::tonic::transport::Error| io::Error::other(error))?;
        Ok(match scenario.size {
            Scenario::SMALL => tasks::<SmallMessage, _>(scenario, runtime, &clients),
            _ => tasks::<BytesMessage, _>(scenario, runtime, &clients),
        })
    }
}
