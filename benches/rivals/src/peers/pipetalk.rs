//! This crate, blocking, with its defaults.

use std::io;

use ::pipetalk::{Blob, Call, Client, Server};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Listening, Peer};
use crate::load::{Lane, Load, OneByOne, Threads};
use crate::message::{Message, Requests, Small, check};
use crate::scenario::Scenario;

/// Blocking: threads that share a client call at once, and each client has a thread in the server.
#[derive(Debug)]
pub(crate) struct Blocking;

impl Peer for Blocking {
    fn name(&self) -> &'static str {
        super::OURS
    }

    fn package(&self) -> Option<&'static str> {
        Some("pipetalk")
    }

    fn how(&self) -> &'static str {
        "blocking `Client` and `Server` with their defaults; bytes are a `Blob`; outstanding requests are threads \
         that share the client"
    }

    fn serve(
        &self,
        scenario: &Scenario,
        address: &str,
        listening: Listening<'_>,
    ) -> io::Result<()> {
        let server = Server::bind(address)?;
        listening.say(address)?;
        if scenario.size == Scenario::SMALL {
            server.serve(|small: Small, _: &Call| small)
        } else {
            server.serve(|blob: Blob, _: &Call| blob)
        }
    }

    fn connect(&self, scenario: &Scenario, address: &str) -> io::Result<Box<dyn Load>> {
        Ok(Box::new(Threads(if scenario.size == Scenario::SMALL {
            lanes::<Small>(scenario, address)?
        } else {
            lanes::<Blob>(scenario, address)?
        })))
    }
}

fn lanes<M: Message + Serialize + DeserializeOwned>(
    scenario: &Scenario,
    address: &str,
) -> io::Result<Vec<Box<dyn Lane>>> {
    let requests = Requests::<M>::new(scenario.size);
    let mut lanes: Vec<Box<dyn Lane>> = Vec::new();
    for _ in 0..scenario.connections {
        let client = Client::<M, M>::connect(address)?;
        for place in 0..scenario.outstanding {
            let client = client.clone();
            let mut requests = requests.beginning_at(place);
            lanes.push(Box::new(OneByOne(move || {
                let request = requests.next();
                check(&client.call(request)?, request)
            })));
        }
    }
    Ok(lanes)
}
