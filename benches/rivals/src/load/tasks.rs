//! Peers on tokio: a task for each request that is outstanding.

use std::io;
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Runtime};

use super::{Latencies, Load, Start, Tally, nanoseconds};
use crate::message::{Message, Requests, check};
use crate::scenario::{Cores, Scenario};

/// A client of an echo, which tasks share by cloning it.
pub(crate) trait Calls<M>: Clone + Send + 'static {
    /// Sends a message and returns the reply.
    fn call(&self, message: &M) -> impl Future<Output = io::Result<M>> + Send;
}

/// A multi-threaded runtime with its defaults, or where there is but one core, one of this thread alone.
pub(crate) fn runtime(scenario: &Scenario) -> io::Result<Runtime> {
    match scenario.cores {
        Cores::One => Builder::new_current_thread(),
        Cores::Two | Cores::Any => Builder::new_multi_thread(),
    }
    .enable_all()
    .build()
}

/// On each connection as many tasks as the scenario has requests outstanding.
pub(crate) fn tasks<M: Message, C: Calls<M>>(
    scenario: &Scenario,
    runtime: Runtime,
    clients: &[C],
) -> Box<dyn Load> {
    let requests = Requests::new(scenario.size);
    let lanes = clients
        .iter()
        .flat_map(|client| (0..scenario.outstanding).map(move |place| (client, place)))
        .map(|(client, place)| TaskLane {
            client: client.clone(),
            requests: requests.beginning_at(place),
        })
        .collect();
    Box::new(Tasks { runtime, lanes })
}

struct Tasks<C, M> {
    runtime: Runtime,
    lanes: Vec<TaskLane<C, M>>,
}

struct TaskLane<C, M> {
    client: C,
    requests: Requests<M>,
}

impl<M: Message, C: Calls<M>> TaskLane<C, M> {
    /// One request at a time. It gives itself back.
    async fn run(mut self, until: Instant) -> io::Result<(Self, Latencies)> {
        let mut latencies = Latencies::new();
        let mut asked = Instant::now();
        while asked < until || latencies.is_empty() {
            let request = self.requests.next();
            check(&self.client.call(request).await?, request)?;
            let now = Instant::now();
            latencies.push(nanoseconds(now - asked));
            asked = now;
        }
        Ok((self, latencies))
    }
}

impl<M: Message, C: Calls<M>> Load for Tasks<C, M> {
    fn turn(&mut self, time: Duration) -> io::Result<Tally> {
        let lanes = std::mem::take(&mut self.lanes);
        self.runtime.block_on(async {
            let start = Start::now()?;
            let until = start.at + time;
            let tasks: Vec<_> = lanes
                .into_iter()
                .map(|lane| tokio::spawn(lane.run(until)))
                .collect();
            let mut latencies = Latencies::new();
            for task in tasks {
                let (lane, mut its) = task.await??;
                self.lanes.push(lane);
                latencies.append(&mut its);
            }
            start.tally(latencies)
        })
    }
}
