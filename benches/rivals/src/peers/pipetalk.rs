//! This crate, blocking: with its defaults, and with receives that spin.

use std::io;
use std::time::Duration;

use ::pipetalk::{
    Blob, Call, Client, ClientOptions, ConnectOptions, ListenOptions, ServerOptions, Spin,
};
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
        serve(Spin::OFF, scenario, address, listening)
    }

    fn connect(&self, scenario: &Scenario, address: &str) -> io::Result<Box<dyn Load>> {
        connect(Spin::OFF, scenario, address)
    }
}

/// Longer than a reply of these takes.
const SPIN: Spin = Spin::adaptive(Duration::from_micros(200));

/// Blocking, where a receive looks for what is to come before it sleeps.
#[derive(Debug)]
pub(crate) struct Spinning;

impl Peer for Spinning {
    fn name(&self) -> &'static str {
        "pipetalk-spin"
    }

    fn package(&self) -> Option<&'static str> {
        Some("pipetalk")
    }

    fn how(&self) -> &'static str {
        "the same with `Spin::adaptive` of 200 microseconds at both ends"
    }

    fn serve(
        &self,
        scenario: &Scenario,
        address: &str,
        listening: Listening<'_>,
    ) -> io::Result<()> {
        serve(SPIN, scenario, address, listening)
    }

    fn connect(&self, scenario: &Scenario, address: &str) -> io::Result<Box<dyn Load>> {
        connect(SPIN, scenario, address)
    }
}

fn serve(
    spin: Spin,
    scenario: &Scenario,
    address: &str,
    listening: Listening<'_>,
) -> io::Result<()> {
    let listen = ListenOptions::new().spin(spin);
    let server = ServerOptions::new().listen_options(listen).bind(address)?;
    listening.say(address)?;
    if scenario.size == Scenario::SMALL {
        server.serve(|small: Small, _: &Call| small)
    } else {
        server.serve(|blob: Blob, _: &Call| blob)
    }
}

fn connect(spin: Spin, scenario: &Scenario, address: &str) -> io::Result<Box<dyn Load>> {
    Ok(Box::new(Threads(if scenario.size == Scenario::SMALL {
        lanes::<Small>(spin, scenario, address)?
    } else {
        lanes::<Blob>(spin, scenario, address)?
    })))
}

fn lanes<M: Message + Serialize + DeserializeOwned>(
    spin: Spin,
    scenario: &Scenario,
    address: &str,
) -> io::Result<Vec<Box<dyn Lane>>> {
    let requests = Requests::<M>::new(scenario.size);
    let options = ClientOptions::new().connect_options(ConnectOptions::new().spin(spin));
    let mut lanes: Vec<Box<dyn Lane>> = Vec::new();
    for _ in 0..scenario.connections {
        let client: Client<M, M> = options.clone().connect(address)?;
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
