//! This crate on tokio, with its defaults.

use std::io;

use ::pipetalk::Blob;
use ::pipetalk::tokio::{Client, Server};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Listening, Peer};
use crate::load::{Calls, Load, runtime, tasks};
use crate::message::{Message, Small};
use crate::scenario::Scenario;

/// Async: tasks that share a client call at once.
#[derive(Debug)]
pub(crate) struct Async;

impl<M: Message + Serialize + DeserializeOwned> Calls<M> for Client<M, M> {
    async fn call(&self, message: &M) -> io::Result<M> {
        Ok(Client::call(self, message).await?)
    }
}

fn load<M: Message + Serialize + DeserializeOwned>(
    scenario: &Scenario,
    address: &str,
) -> io::Result<Box<dyn Load>> {
    let runtime = runtime(scenario)?;
    let clients = runtime.block_on(async {
        let mut clients = Vec::new();
        for _ in 0..scenario.connections {
            clients.push(Client::<M, M>::connect(address).await?);
        }
        io::Result::Ok(clients)
    })?;
    Ok(tasks(scenario, runtime, &clients))
}

impl Peer for Async {
    fn name(&self) -> &'static str {
        "pipetalk-async"
    }

    fn package(&self) -> Option<&'static str> {
        Some("pipetalk")
    }

    fn how(&self) -> &'static str {
        "`tokio::Client` and `tokio::Server` with their defaults; bytes are a `Blob`; outstanding requests are tasks \
         that share the client"
    }

    fn serve(
        &self,
        scenario: &Scenario,
        address: &str,
        listening: Listening<'_>,
    ) -> io::Result<()> {
        runtime(scenario)?.block_on(async {
            let server = Server::bind(address)?;
            listening.say(address)?;
            if scenario.size == Scenario::SMALL {
                server
                    .serve(|small: Small, _call| async move { small })
                    .await
            } else {
                server.serve(|blob: Blob, _call| async move { blob }).await
            }
        })
    }

    fn connect(&self, scenario: &Scenario, address: &str) -> io::Result<Box<dyn Load>> {
        match scenario.size {
            Scenario::SMALL => load::<Small>(scenario, address),
            _ => load::<Blob>(scenario, address),
        }
    }
}
