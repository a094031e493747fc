//! The same on tokio: sockets whose readiness the runtime watches.
//!
//! A call tries first and waits afterwards. The format of the bytes, the listening socket and its name are shared with
//! the blocking side.

mod listener;
mod outgoing;
mod scratch;
mod stream;
#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests;

use std::io;

use rustix::io::Errno;

use super::place::{Place, Search};
use super::socket::Socket;
use super::system::Os;
use super::{check_read_mode, dialed, os, refused, since};
use crate::base::backoff::Backoff;
use crate::transport::tokio::platform::Platform;
use crate::transport::tokio::runtime;
use crate::{ConnectOptions, Deadline, Error, ListenOptions, Name};
use listener::Listener;
use stream::Stream;

impl Platform for Os {
    type Listener = Listener;
    type Stream = Stream;

    fn bind(options: &ListenOptions, name: &Name) -> io::Result<Listener> {
        check_read_mode(options.read_mode)?;
        Listener::bind(options, name)
    }

    async fn connect(
        options: &ConnectOptions,
        name: &Name,
        deadline: Deadline,
    ) -> io::Result<Stream> {
        check_read_mode(options.read_mode)?;
        os::prepare_to_identify();
        let mut backoff = Backoff::new();
        let search = Search::new(name)?;
        let socket = loop {
            match search.find(dial) {
                Ok(Some(socket)) => break socket,
                Ok(None) if deadline == Deadline::NOW => return Err(Error::Busy.into()),
                Ok(None) => runtime::sleep(backoff.next(deadline)?).await?,
                Err(error)
                    if options.wait_for_server && error.kind() == io::ErrorKind::NotFound =>
                {
                    let pause = backoff.next(deadline).map_err(|late| since(late, &error))?;
                    runtime::sleep(pause).await?;
                }
                Err(error) => return Err(error),
            }
        };
        let (socket, peer) = dialed(options, socket)?;
        Stream::new(socket, peer, options.max_message)
    }
}

/// One `connect(2)` that does not wait; `None` where the backlog is full. No event says when it has room again.
fn dial(place: &Place) -> io::Result<Option<Socket>> {
    let address = place.address()?;
    let socket = Socket::new(os::socket()?);
    loop {
        match rustix::net::connect(&socket, &address) {
            Ok(()) => return Ok(Some(socket)),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return Ok(None),
            Err(error) => return Err(refused(error, place)),
        }
    }
}
