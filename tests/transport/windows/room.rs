//! M10: what becomes of a message that waits for room in a pipe when its time is over.

use std::io::{self, ErrorKind, IoSlice};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use pipetalk::{Deadline, Error, Part, Stream};

use crate::harness::*;

/// How much the pipe of these tests holds.
const BUFFER: usize = 64 << 10;

fn setup() -> Setup {
    Setup {
        buffer_size: Some(BUFFER),
        ..Setup::default()
    }
}

/// Sends in each way that there is.
fn send_in_each_way<S: Stream>(
    stream: &S,
    message: &[u8],
    deadline: Deadline,
) -> [io::Result<()>; 3] {
    let (head, tail) = message.split_at(message.len() / 2);
    let pieces = [head, tail].map(IoSlice::new);
    [
        stream.send(message, deadline),
        stream.send_vectored(&pieces, deadline),
        stream.send_while_receiving(&pieces, deadline, &mut || false),
    ]
}

pub(crate) fn m10_a_message_that_waits_for_room_is_taken_back_whole<T: Named>() {
    both_ways_with::<T>(&setup(), |from, to| {
        // The peer has not begun to receive the one before, or it has.
        for begun in [false, true] {
            let first = content(1, BUFFER - 10);
            send(&from, b"");
            send(&from, &first);
            assert_eq!(part(&to, &mut [0; 8]), Part { len: 0, last: true });
            let mut received = vec![0; if begun { 100 } else { 0 }];
            if begun {
                assert!(!part(&to, &mut received).last);
            }
            // More than what a receive that has begun may have read beyond what it was asked for.
            for size in [5_000, BUFFER / 2, BUFFER] {
                for deadline in [Deadline::NOW, Deadline::after(Duration::from_millis(5))] {
                    for sent in send_in_each_way(&from, &content(2, size), deadline) {
                        assert_eq!(kind(sent), ErrorKind::TimedOut, "{size} bytes");
                    }
                }
            }
            // What fits goes, and so does what has no size.
            send(&from, b"fits");
            send(&from, b"");
            received.extend_from_slice(&recv(&to).unwrap());
            assert!(received == first);
            assert_eq!(recv(&to).unwrap(), b"fits");
            assert_eq!(recv(&to).unwrap(), b"");
            assert_works(&from, &to);
        }
        // Nothing says of a larger one how much the peer has had of it.
        let large = from.send(&content(3, BUFFER + 1), Deadline::after(A_MOMENT));
        assert_eq!(kind(large), ErrorKind::TimedOut);
        assert_eq!(ours(from.send(b"next", soon())), Error::Poisoned);
    });
}

/// Each message says which it is.
fn numbered(n: u64, size: usize) -> Vec<u8> {
    let mut message = content(n as usize, size.max(8));
    message[..8].copy_from_slice(&n.to_le_bytes());
    message
}

/// The next message, in parts or in whole.
fn recv_somehow<S: Stream>(stream: &S, rng: &mut Rng) -> Option<Vec<u8>> {
    if rng.one_in(2) {
        return recv(stream);
    }
    let mut message = Vec::new();
    let mut buf = vec![0; rng.in_range(1..40_000)];
    loop {
        let Part { len, last } = stream.recv(&mut buf, soon()).unwrap()?;
        message.extend_from_slice(&buf[..len]);
        if last {
            return Some(message);
        }
        rng.shake();
    }
}

/// However the deadline and the peer race: what was said to be sent arrives, nothing else does, and the connection lives.
pub(crate) fn m10_a_message_that_fits_the_pipe_goes_or_is_taken_back<T: Named>() {
    let messages = u64::from(rounds_or(40_000, 6_000));
    both_ways_with::<T>(&setup(), |from, to| {
        let mut rng = Rng::new();
        let (tell, told) = mpsc::channel();
        let timed_out = thread::scope(|scope| {
            let mut receiver_rng = rng.fork();
            let to = &to;
            scope.spawn(move || {
                let rng = &mut receiver_rng;
                for sent in told {
                    let sent: Vec<u8> = sent;
                    rng.dawdle();
                    assert!(recv_somehow(to, rng) == Some(sent), "another message");
                }
                assert_ended(to);
            });
            let mut timed_out = 0;
            for n in 0..messages {
                // Around a quarter, a half and all of the pipe, most of the time.
                let size = match rng.in_range(0..8) {
                    0 => rng.size(BUFFER),
                    1..=3 => BUFFER / 4 + rng.in_range(0..100),
                    4 | 5 => BUFFER / 2 + rng.in_range(0..100),
                    6 => BUFFER - rng.in_range(0..3),
                    _ => rng.in_range(0..BUFFER),
                };
                let message = numbered(n, size);
                let timeout = match rng.in_range(0..4) {
                    0 => Duration::ZERO,
                    _ => Duration::from_micros(rng.in_range(0..400) as u64),
                };
                match from.send(&message, Deadline::after(timeout)) {
                    Ok(()) => tell.send(message).unwrap(),
                    Err(error) => {
                        assert_eq!(error.kind(), ErrorKind::TimedOut, "message {n}: {error:?}");
                        timed_out += 1;
                    }
                }
                if rng.one_in(4) {
                    rng.shake();
                }
            }
            drop(tell);
            from.close();
            timed_out
        });
        assert!(timed_out > 0, "the timing was never shaken enough");
    });
}
