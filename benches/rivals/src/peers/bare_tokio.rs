//! The bare system on tokio: what the runtime costs by itself.

use std::io::{self, ErrorKind};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

use super::{Listening, Peer};
use crate::load::{Calls, Load, runtime, tasks};
use crate::scenario::Scenario;

/// tokio's `UnixStream`.
#[derive(Debug)]
pub(crate) struct Tokio;

/// A connection, which one call has at a time.
#[derive(Debug, Clone)]
struct Connection(Arc<Mutex<Option<UnixStream>>>);

impl Connection {
    fn exchange(&self, stream: Option<UnixStream>) -> Option<UnixStream> {
        let mut place = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *place, stream)
    }
}

impl Calls<Bytes> for Connection {
    async fn call(&self, message: &Bytes) -> io::Result<Bytes> {
        let mut stream = self.exchange(None).ok_or(ErrorKind::ResourceBusy)?;
        stream.write_all(message).await?;
        let mut reply = vec![0; message.len()];
        stream.read_exact(&mut reply).await?;
        self.exchange(Some(stream));
        Ok(reply.into())
    }
}

async fn echo(mut stream: UnixStream, size: usize) -> io::Result<()> {
    let mut message = vec![0; size];
    loop {
        match stream.read_exact(&mut message).await {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(()),
            received => received?,
        };
        stream.write_all(&message).await?;
    }
}

impl Peer for Tokio {
    fn name(&self) -> &'static str {
        "tokio"
    }

    fn package(&self) -> Option<&'static str> {
        Some("tokio")
    }

    fn how(&self) -> &'static str {
        "`net::UnixStream` with `write_all` and `read_exact` of a size that both sides know"
    }

    fn unable(&self, scenario: &Scenario) -> Option<&'static str> {
        (scenario.outstanding > 1).then_some("one at a time only")
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
            let mut echoes = Vec::new();
            for _ in 0..scenario.connections {
                let (stream, _) = listener.accept().await?;
                echoes.push(tokio::spawn(echo(stream, scenario.size)));
            }
            for echo in echoes {
                echo.await??;
            }
            Ok(())
        })
    }

    fn connect(&self, scenario: &Scenario, address: &str) -> io::Result<Box<dyn Load>> {
        let runtime = runtime(scenario)?;
        let connections = runtime.block_on(async {
            let mut connections = Vec::new();
            for _ in 0..scenario.connections {
                let stream = UnixStream::connect(address).await?;
                connections.push(Connection(Arc::new(Mutex::new(Some(stream)))));
            }
            io::Result::Ok(connections)
        })?;
        Ok(tasks(scenario, runtime, &connections))
    }
}
