//! Servers and clients: what the tests have in common.

use std::future::Future;
use std::io;

use pipetalk::tokio::{Client, Listener, Server, memory};
use pipetalk::{Call, ClientOptions, ServerHandle};
use tokio::task::JoinHandle;

use util::{Serialize, soon};

pub(crate) struct Serving {
    pub(crate) handle: ServerHandle,
    pub(crate) task: JoinHandle<io::Result<()>>,
}

impl Serving {
    pub(crate) fn start<Q, F>(
        server: Server<impl Listener>,
        handler: impl Fn(Q, Call) -> F + Send + Sync + 'static,
    ) -> Serving
    where
        Q: serde::de::DeserializeOwned + Send + 'static,
        F: Future<Output: Serialize> + Send + 'static,
    {
        Serving {
            handle: server.handle(),
            task: tokio::spawn(server.serve(handler)),
        }
    }

    pub(crate) async fn stop(self) {
        self.handle.stop();
        self.task.await.unwrap().unwrap();
    }
}

/// A client and a server over memory.
pub(crate) async fn connect<Q, R>(
    connector: &memory::Connector,
    options: ClientOptions,
) -> Client<Q, R> {
    let stream = connector.connect(soon()).await.unwrap();
    options.over_tokio(stream).unwrap()
}

/// How many tasks the runtime has.
pub(crate) fn alive_tasks() -> usize {
    tokio::runtime::Handle::current()
        .metrics()
        .num_alive_tasks()
}
