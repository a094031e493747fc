//! Connections after their last words, when their listener is about to end.
//!
//! A client that has not yet noticed that its server has ended keeps the server's name, with its access: see
//! [`claim`](super::claim). DisconnectNamedPipe lets go of the client's end, but drops what the client has not read. So
//! a client is given a moment to read the last words and to leave. If it does not, it is disconnected where it misses
//! nothing but those, which is how it is with one that is idle, and where it has asked for nothing to which they
//! would be the answer. All others get what was sent, and the end behind it.

use std::os::windows::io::OwnedHandle;
use std::time::Duration;

use super::handle::{disconnect, look};
use super::recipe::local_information;
use crate::Deadline;

/// How long a client may take to read the last words.
const MOMENT: Duration = Duration::from_millis(100);

/// The server's end of a connection.
#[derive(Debug)]
pub(super) struct Parting {
    pipe: OwnedHandle,
    /// How many bytes were sent last that the client can do without.
    courtesy: usize,
    until: Deadline,
}

/// What the system knows of the other end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seen {
    /// How many bytes the client has not read yet; or more, while it waits to read.
    unread: usize,
    /// How many bytes of the client's have not been read.
    asked: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Stay,
    Close,
    Disconnect,
}

impl Parting {
    pub(super) fn new(pipe: OwnedHandle, courtesy: usize) -> Parting {
        Parting {
            pipe,
            courtesy,
            until: Deadline::after(MOMENT),
        }
    }

    /// Whether its time has not come yet. If it has, the end is to be closed now.
    pub(super) fn stays(&self) -> bool {
        match judge(self.see(), self.courtesy, self.until.has_passed()) {
            Verdict::Stay => true,
            Verdict::Close => false,
            Verdict::Disconnect => {
                disconnect(&self.pipe);
                false
            }
        }
    }

    /// `None`: the client has gone.
    fn see(&self) -> Option<Seen> {
        let (asked, _) = look(&self.pipe).ok()?;
        let known = local_information(&self.pipe).ok()?;
        // Wine does not know it, and says that there is no room at all.
        let unread = known
            .OutboundQuota
            .saturating_sub(known.WriteQuotaAvailable);
        Some(Seen {
            unread: unread as usize,
            asked,
        })
    }
}

fn judge(seen: Option<Seen>, courtesy: usize, late: bool) -> Verdict {
    match seen {
        None => Verdict::Close,
        Some(Seen { unread: 0, .. }) => Verdict::Disconnect,
        Some(_) if !late => Verdict::Stay,
        Some(Seen { unread, asked: 0 }) if unread <= courtesy => Verdict::Disconnect,
        Some(_) => Verdict::Close,
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;
    use crate::transport::carrier::{Carrier as _, Doors as _};
    use crate::windows::security::is_wine;
    use crate::{Listener, LocalListener, LocalStream, Stream};

    #[test]
    fn e01_nobody_is_disconnected_who_would_miss_more_than_courtesy() {
        let seen = |unread, asked| Some(Seen { unread, asked });
        for late in [false, true] {
            assert_eq!(judge(None, 20, late), Verdict::Close);
            // It has read everything.
            assert_eq!(judge(seen(0, 0), 20, late), Verdict::Disconnect);
            assert_eq!(judge(seen(0, 5), 20, late), Verdict::Disconnect);
        }
        for unread in [1, 20, 21, 65_536] {
            assert_eq!(judge(seen(unread, 0), 20, false), Verdict::Stay);
        }
        assert_eq!(judge(seen(1, 0), 20, true), Verdict::Disconnect);
        assert_eq!(judge(seen(20, 0), 20, true), Verdict::Disconnect);
        // A reply, or the item of a stream.
        assert_eq!(judge(seen(21, 0), 20, true), Verdict::Close);
        // What was asked is answered by the last words: that it was not carried out.
        assert_eq!(judge(seen(20, 1), 20, true), Verdict::Close);
    }

    fn soon() -> Deadline {
        Deadline::after(Duration::from_secs(60))
    }

    fn end(listener: &LocalListener, server: &LocalStream, courtesy: usize) {
        listener.stop();
        server.part(courtesy);
        while !listener.see_off() {
            thread::sleep(Duration::from_millis(1));
        }
    }

    fn connected(name: &str) -> (LocalListener, LocalStream, LocalStream) {
        let listener = LocalListener::bind(name).unwrap();
        let client = LocalStream::connect(name).unwrap();
        let server = listener.accept(soon()).unwrap();
        (listener, client, server)
    }

    /// That the name is free for a server of another kind, too, Windows alone can show.
    #[test]
    fn e05_an_idle_client_does_not_keep_the_name_and_one_with_a_reply_gets_it() {
        let name = &*format!("pipetalk-unit-{}-parting", std::process::id());
        let mut message = Vec::new();
        let (listener, client, server) = connected(name);
        server.send(b"goodbye", soon()).unwrap();
        end(&listener, &server, 7);
        assert!(server.send(b"more", soon()).is_err());
        let read = client.recv_message(&mut message, soon()).unwrap();
        if is_wine() {
            eprintln!("skipped under Wine: E5: it does not tell what has not been read");
            assert_eq!(read, Some(7));
        } else {
            assert_eq!(read, None);
            // Nobody keeps it, whatever is asked for.
            let everyone = crate::ListenOptions::new().access(crate::Access::Everyone);
            everyone.bind(name).unwrap();
        }
        drop(client);

        let (listener, client, server) = connected(name);
        server.send(b"a reply", soon()).unwrap();
        server.send(b"goodbye", soon()).unwrap();
        end(&listener, &server, 7);
        for expected in [b"a reply", b"goodbye"] {
            client.recv_message(&mut message, soon()).unwrap();
            assert_eq!(message, expected);
        }
        assert_eq!(client.recv_message(&mut message, soon()).unwrap(), None);
        drop(client);

        // One that has asked is told.
        let (listener, client, server) = connected(name);
        client.send(b"a request", soon()).unwrap();
        server.send(b"goodbye", soon()).unwrap();
        end(&listener, &server, 7);
        client.recv_message(&mut message, soon()).unwrap();
        assert_eq!(message, b"goodbye");
        drop(client);

        // And one that has left is not waited for.
        let (listener, client, server) = connected(name);
        drop(client);
        listener.stop();
        server.part(7);
        assert!(listener.see_off());
    }
}
