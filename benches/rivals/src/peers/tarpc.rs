//! tarpc over its Unix transport, with its bincode.

use std::future;
use std::io;

use ::tarpc::client::{Config, RpcError};
use ::tarpc::context::{self, Context};
use ::tarpc::serde_transport::unix;
use ::tarpc::server::{BaseChannel, Channel};
use bytes::Bytes;
use futures::StreamExt;
use tokio_serde::formats::Bincode;

use super::{Listening, Peer};
use crate::load::{Calls, Load, runtime, tasks};
use crate::message::Small;
use crate::scenario::Scenario;

#[::tarpc::service]
trait Echo {
    async fn small(message: Small) -> Small;
    async fn bytes(message: Bytes) -> Bytes;
}

#[derive(Clone)]
struct Server;

impl Echo for Server {
    async fn small(self, _: Context, message: Small) -> Small {
        message
    }

    async fn bytes(self, _: Context, message: Bytes) -> Bytes {
        message
    }
}

fn failed(error: RpcError) -> io::Error {
    io::Error::other(error)
}

impl Calls<Small> for EchoClient {
    async fn call(&self, message: &Small) -> io::Result<Small> {
        let reply = self.small(context::current(), *message).await;
        reply.map_err(failed)
    }
}

impl Calls<Bytes> for EchoClient {
    async fn call(&self, message: &Bytes) -> io::Result<Bytes> {
        let reply = self.bytes(context::current(), message.clone()).await;
        reply.map_err(failed)
    }
}

/// tarpc.
#[derive(Debug)]
pub(crate) struct Tarpc;

impl Peer for Tarpc {
    fn name(&self) -> &'static str {
        "tarpc"
    }

    fn package(&self) -> Option<&'static str> {
        Some("tarpc")
    }

    fn how(&self) -> &'static str {
        "`serde_transport::unix` with `Bincode`, each request a task of the server; bytes are `bytes::Bytes`; \
         outstanding requests are tasks that share the client"
    }

    fn serve(
        &self,
        scenario: &Scenario,
        address: &str,
        listening: Listening<'_>,
    ) -> io::Result<()> {
        runtime(scenario)?.block_on(async {
            let mut incoming = unix::listen(address, Bincode::default).await?;
            listening.say(address)?;
            while let Some(transport) = incoming.next().await {
                let channel = BaseChannel::with_defaults(transport?);
                tokio::spawn(channel.execute(Server.serve()).for_each(|response| {
                    tokio::spawn(response);
                    future::ready(())
                }));
            }
            Ok(())
        })
    }

    fn connect(&self, scenario: &Scenario, address: &str) -> io::Result<Box<dyn Load>> {
        let runtime = runtime(scenario)?;
        let clients = runtime.block_on(async {
            let mut clients = Vec::new();
            for _ in 0..scenario.connections {
                let transport = unix::connect(address, Bincode::default).await?;
                clients.push(EchoClient::new(Config::default(), transport).spawn());
            }
            io::Result::Ok(clients)
        })?;
        Ok(match scenario.size {
            Scenario::SMALL => tasks::<Small, _>(scenario, runtime, &clients),
            _ => tasks::<Bytes, _>(scenario, runtime, &clients),
        })
    }
}
