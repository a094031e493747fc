//! What the attackers do. Each says when it begins, and when it has done everything once; it goes on until it is ended.

use std::thread;
use std::time::Duration;

use pipetalk::{
    CallError, Client, ClientOptions, Codec, Deadline, DefaultCodec, LocalStream, Stream,
};

use crate::attacks::target::{Reply, Request, Wide};
use crate::calls::bytes::{FOR_EVER, cancel, hello, notification, open, request};
use util::{Serialize, allow_many_descriptors, announce, is_quick, is_wine};

/// How long an attacker waits for anything: a server may well make it wait.
const BRIEFLY: Duration = Duration::from_millis(200);

/// As many connections as a process opens here. Under Wine one thread of a process carries out all that has come of its
/// I/O, and with so many it would be at that alone.
pub(crate) fn crowd_size() -> usize {
    if is_wine() { 60 } else { 300 }
}

const LARGE: usize = 15 << 20;

/// How many there are of what is not about a limit; in a quick run a part of it.
fn some(usual: usize) -> usize {
    if is_quick() { usual / 8 } else { usual }
}

/// How many elements a message has: each costs the server a while.
fn elements() -> usize {
    if is_quick() { LARGE / 32 } else { LARGE }
}

pub(crate) fn run(attack: &str, name: &str) {
    allow_many_descriptors();
    announce("attacking");
    let attacker = Attacker { name };
    match attack {
        "nothing" => attacker.keep(()),
        "greeted" => attacker.keep(attacker.crowd(1_100)),
        "silent" => {
            let silent: Vec<_> = (0..1_100).filter_map(|_| attacker.connects()).collect();
            attacker.keep(silent);
        }
        "churn" => attacker.churns(),
        #[cfg(unix)]
        "halves" => attacker.keep(attacker.halves()),
        "large requests" => attacker.floods(some(64), |id| {
            request(
                id,
                FOR_EVER,
                &encoded(&Request::Bytes(vec![7; LARGE].into())),
            )
        }),
        "large notifications" => attacker.floods(some(64), |_| {
            notification(&encoded(&Request::Bytes(vec![7; LARGE].into())))
        }),
        "unread replies" => attacker.floods(crowd_size(), |id| {
            request(id, FOR_EVER, &encoded(&Request::Large(128 << 10)))
        }),
        "opens" => attacker.opens(0, &Request::UntilCancelled),
        "unread items" => attacker.opens(1 << 20, &Request::Large(256 << 10)),
        "subscribers" => attacker.subscribes(),
        "cancels" => attacker.cancels(),
        "slow" => attacker.floods(1, |id| request(id, FOR_EVER, &encoded(&Request::Slow(200)))),
        "bombs" => attacker.bombs(),
        "units" => attacker.floods(16, |id| {
            request(
                id,
                FOR_EVER,
                &encoded(&Request::Units(vec![vec![]; elements()])),
            )
        }),
        "wide" => {
            let none: Vec<Option<Wide>> = vec![None; elements()];
            let message = encoded(&Request::Wide(none));
            attacker.floods(16, |id| request(id, FOR_EVER, &message));
        }
        #[cfg(unix)]
        "dribble" => attacker.dribbles(),
        #[cfg(unix)]
        "half-closed" => attacker.closes_halves(),
        #[cfg(target_os = "linux")]
        "descriptors" => attacker.sends_descriptors(),
        _ => panic!("no attack is called {attack}"),
    }
}

fn encoded<T: Serialize>(value: &T) -> Vec<u8> {
    let mut out = Vec::new();
    DefaultCodec::encode(value, &mut out).unwrap();
    out
}

fn briefly() -> Deadline {
    Deadline::after(BRIEFLY)
}

struct Attacker<'a> {
    name: &'a str,
}

impl Attacker<'_> {
    /// Everything has been done once: keeps it until the end.
    fn keep<T>(&self, what: T) -> ! {
        announce("done");
        let _what = what;
        loop {
            thread::park();
        }
    }

    fn connects(&self) -> Option<LocalStream> {
        pipetalk::ConnectOptions::new()
            .connect(self.name, briefly())
            .ok()
    }

    /// A connection that has said hello, whatever came of it.
    fn guest(&self) -> Option<LocalStream> {
        let stream = self.connects()?;
        stream.send(&hello(), briefly()).ok()?;
        Some(stream)
    }

    fn crowd(&self, size: usize) -> Vec<LocalStream> {
        (0..size).filter_map(|_| self.guest()).collect()
    }

    fn churns(&self) -> ! {
        for round in 0.. {
            if let Some(stream) = self.guest() {
                let _ = stream.send(
                    &request(1, FOR_EVER, &encoded(&Request::UntilCancelled)),
                    briefly(),
                );
            }
            if round == some(1_000) {
                announce("done");
            }
        }
        unreachable!()
    }

    /// Sends such requests on so many connections, as many as the server takes, and never reads.
    fn floods(&self, connections: usize, mut message: impl FnMut(u32) -> Vec<u8>) -> ! {
        let crowd = self.crowd(connections);
        let one = message(0);
        let all: Vec<_> = (0..64)
            .map(|id| {
                if one.len() < 1 << 20 {
                    message(id)
                } else {
                    vec![]
                }
            })
            .collect();
        for round in 0_u64.. {
            for stream in &crowd {
                for id in 0..64_u32 {
                    let sent = match one.len() < 1 << 20 {
                        true => stream.send(&all[id as usize], Deadline::NOW),
                        false => stream.send(
                            &with_id(&one, id),
                            Deadline::after(Duration::from_millis(20)),
                        ),
                    };
                    if sent.is_err() {
                        break;
                    }
                }
            }
            if round == 0 {
                announce("done");
            }
        }
        unreachable!()
    }

    /// Opens as many streams as it can, with so much credit, and never reads.
    fn opens(&self, credit: u32, asked: &Request) -> ! {
        let payload = encoded(asked);
        let crowd = self.crowd(crowd_size());
        for stream in &crowd {
            for id in 0..64 {
                if stream
                    .send(&open(id, FOR_EVER, credit, &payload), Deadline::NOW)
                    .is_err()
                {
                    break;
                }
            }
        }
        self.keep(crowd)
    }

    fn subscribes(&self) -> ! {
        let payload = encoded(&Request::Subscribe);
        let crowd = self.crowd(64);
        for stream in &crowd {
            for id in 0..16 {
                let _ = stream.send(&open(id, FOR_EVER, 64, &payload), Deadline::NOW);
            }
        }
        let publisher: Option<Client<Request, Reply>> = Client::connect(self.name).ok();
        let news = Request::Publish(vec![7; 256 << 10].into());
        for round in 0.. {
            // An attacker whose connections are refused has nothing left to do.
            match publisher.as_ref().map(|client| client.call(&news)) {
                Some(Ok(_)) => {}
                _ => self.keep(crowd),
            }
            if round == some(200) {
                announce("done");
            }
        }
        unreachable!()
    }

    /// Cancels what is not there, for as long as a handler looks for cancels.
    fn cancels(&self) -> ! {
        let crowd = self.crowd(2);
        for stream in &crowd {
            let looks = request(1, 1_000, &encoded(&Request::UntilCancelled));
            let _ = stream.send(&looks, briefly());
        }
        announce("done");
        loop {
            for stream in &crowd {
                for _ in 0..1_000 {
                    if stream.send(&cancel(9), Deadline::NOW).is_err() {
                        break;
                    }
                }
            }
        }
    }

    fn bombs(&self) -> ! {
        for round in 0.. {
            let options = ClientOptions::new().timeout(Duration::from_secs(10));
            let client: Result<Client<Request, Reply>, _> = options.connect(self.name);
            if let Ok(client) = client {
                match client.call(&Request::Bomb) {
                    Err(CallError::Panicked | CallError::Refused(_)) => {}
                    other => panic!("a panic was answered by {other:?}"),
                }
            }
            if round == some(100) {
                announce("done");
            }
        }
        unreachable!()
    }
}

/// The same request with another id.
fn with_id(message: &[u8], id: u32) -> Vec<u8> {
    let mut message = message.to_vec();
    message[4..8].copy_from_slice(&id.to_le_bytes());
    message
}

#[cfg(unix)]
mod unix {
    use std::io::{Read, Write};
    use std::net::Shutdown;
    use std::os::unix::net::UnixStream;

    use super::*;

    fn framed(message: &[u8]) -> Vec<u8> {
        let length = u32::try_from(message.len()).unwrap();
        [&length.to_le_bytes(), message].concat()
    }

    impl Attacker<'_> {
        fn socket(&self) -> Option<UnixStream> {
            let socket = UnixStream::connect(self.name).ok()?;
            socket.set_nonblocking(true).unwrap();
            Some(socket)
        }

        /// All but the last bytes of the largest message, from everybody.
        pub(super) fn halves(&self) -> Vec<UnixStream> {
            let message = request(
                1,
                FOR_EVER,
                &encoded(&Request::Bytes(vec![7; LARGE].into())),
            );
            let whole = [framed(&hello()), framed(&message)].concat();
            let mut crowd: Vec<_> = (0..200)
                .filter_map(|_| Some((self.socket()?, 0_usize)))
                .collect();
            let until = Deadline::after(if is_quick() { BRIEFLY } else { 10 * BRIEFLY });
            while !until.has_passed() {
                for (socket, sent) in &mut crowd {
                    let some = &whole[*sent..(*sent + (256 << 10)).min(whole.len() - 10)];
                    *sent += (&*socket).write(some).unwrap_or(0);
                }
            }
            crowd.into_iter().map(|(socket, _)| socket).collect()
        }

        pub(super) fn dribbles(&self) -> ! {
            let echo = framed(&request(1, FOR_EVER, &encoded(&Request::Echo(1))));
            let whole = [framed(&hello()), echo.repeat(1_000)].concat();
            let crowd: Vec<_> = (0..crowd_size()).filter_map(|_| self.socket()).collect();
            for (round, byte) in whole.iter().cycle().enumerate() {
                for socket in &crowd {
                    let _ = (&mut &*socket).write(&[*byte]);
                }
                if round == 200 {
                    announce("done");
                }
            }
            unreachable!()
        }

        pub(super) fn closes_halves(&self) -> ! {
            let large = framed(&request(1, FOR_EVER, &encoded(&Request::Large(1 << 20))));
            let whole = [framed(&hello()), large.repeat(10)].concat();
            let mut crowd = Vec::new();
            for _ in 0..crowd_size() {
                if let Some(mut socket) = self.socket() {
                    let _ = socket.write(&whole);
                    let _ = socket.shutdown(Shutdown::Write);
                    let _ = socket.read(&mut [0; 10]);
                    crowd.push(socket);
                }
            }
            self.keep(crowd)
        }
    }

    #[cfg(target_os = "linux")]
    mod descriptors {
        use std::io::{IoSlice, Write};
        use std::mem::MaybeUninit;
        use std::net::{TcpListener, TcpStream};
        use std::os::fd::AsFd;

        use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg, sockopt};

        use super::*;

        impl Attacker<'_> {
            /// Sends sockets along whose closing waits for somebody who never reads.
            pub(in crate::attacks::attack) fn sends_descriptors(&self) -> ! {
                let listener = TcpListener::bind("127.0.0.1:0").unwrap();
                let mut kept = Vec::new();
                for round in 0_u64.. {
                    let Some(socket) = self.socket() else {
                        continue;
                    };
                    let mut full = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
                    let silent = listener.accept().unwrap();
                    full.set_nonblocking(true).unwrap();
                    while full.write(&[7; 1 << 16]).is_ok() {}
                    full.set_nonblocking(false).unwrap();
                    sockopt::set_socket_linger(&full, Some(Duration::from_secs(8))).unwrap();
                    let descriptors = [full.as_fd()];
                    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
                    let mut control = SendAncillaryBuffer::new(&mut space);
                    control.push(SendAncillaryMessage::ScmRights(&descriptors));
                    let bytes = framed(&hello());
                    let bytes = [IoSlice::new(&bytes)];
                    let _ = sendmsg(&socket, &bytes, &mut control, SendFlags::NOSIGNAL);
                    kept.push((socket, silent));
                    if kept.len() > 50 {
                        kept.remove(0);
                    }
                    if round == 40 {
                        announce("done");
                    }
                    // It is the last who has it that closes it.
                    drop(full);
                }
                unreachable!()
            }
        }
    }
}
