//! How long a system call on a socket waits.

use std::io;
use std::mem;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::sockopt::{self, Timeout};

use crate::base::spin::Spinner;
use crate::{Deadline, Spin};

/// Receives while a send has to wait, and says whether there was anything to receive.
pub(super) type Meanwhile<'a> = Option<&'a mut dyn FnMut() -> bool>;

/// How long a receive may wait in the system call: `SO_RCVTIMEO`, see socket(7).
///
/// The socket blocks, so that a receive which has to wait costs one system call and not three (try, poll, try
/// again). The option is set rarely: it stays on a step that is well within the time to the deadline, and when
/// the step has passed without success, the deadline is looked at again.
#[derive(Debug, Default)]
pub(super) struct Patience {
    step: Option<Duration>,
    /// For how far away a deadline the step is long enough.
    reach: Duration,
    /// What a receive does before it sleeps.
    spinner: Spinner,
    /// The next call does not wait if it need not, as there is probably no need.
    try_first: bool,
}

/// How long a send that waits leaves what has come to another thread that receives, before it looks again.
const SOMEBODY_ELSE: Duration = Duration::from_millis(2);

/// Waits until the socket is ready or the deadline has passed, and says for what it is ready.
fn poll_until(
    socket: BorrowedFd<'_>,
    interest: PollFlags,
    deadline: Deadline,
) -> io::Result<PollFlags> {
    let timeout = deadline
        .remaining()
        .and_then(|left| Timespec::try_from(left).ok());
    let mut polled = [PollFd::from_borrowed_fd(socket, interest)];
    match poll(&mut polled, timeout.as_ref()) {
        Ok(_) | Err(Errno::INTR) => Ok(polled[0].revents()),
        Err(error) => Err(error.into()),
    }
}

/// No step is longer, so that a far deadline needs no other step than the farthest.
const LONGEST_STEP: Duration = Duration::from_millis(1 << 22);

/// Runs a system call that sends until it succeeds, fails, or the deadline has passed. `call` is told whether it may
/// wait. Where it has to, `meanwhile` is called for what arrives.
///
/// With a deadline it never waits in the system call: `SO_SNDTIMEO` is how long each part of a message waits for room, and
/// for a peer that reads slowly there are many.
#[inline]
pub(super) fn send<T>(
    socket: BorrowedFd<'_>,
    deadline: Deadline,
    meanwhile: &mut Meanwhile<'_>,
    mut call: impl FnMut(bool) -> rustix::io::Result<T>,
) -> io::Result<T> {
    let may_wait = deadline.is_never() && meanwhile.is_none();
    let mut alone = false;
    loop {
        match call(may_wait) {
            Ok(done) => return Ok(done),
            Err(Errno::AGAIN) if deadline.has_passed() => {
                return Err(io::ErrorKind::TimedOut.into());
            }
            Err(Errno::AGAIN) => alone = wait_for_room(socket, deadline, meanwhile, alone)?,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Waits until there may be room, or something has been received. `alone`: what has come belongs to another thread that is
/// receiving, and would be seen again and again; whether that is so the next time.
#[cold]
fn wait_for_room(
    socket: BorrowedFd<'_>,
    deadline: Deadline,
    meanwhile: &mut Meanwhile<'_>,
    alone: bool,
) -> io::Result<bool> {
    let Some(receive) = meanwhile else {
        poll_until(socket, PollFlags::OUT, deadline)?;
        return Ok(false);
    };
    let (interest, until) = if alone {
        let until = deadline.min(Deadline::after(SOMEBODY_ELSE));
        (PollFlags::OUT, until)
    } else {
        (PollFlags::IN | PollFlags::OUT, deadline)
    };
    let seen = poll_until(socket, interest, until)?;
    Ok(seen == PollFlags::IN && !receive())
}

impl Patience {
    /// For an accepted connection: its client has said something by now, and so the option is not worth its system call
    /// yet.
    pub(super) fn trying_first(self) -> Patience {
        Patience {
            try_first: true,
            ..self
        }
    }

    /// With or without spinning.
    pub(super) fn spinning(spin: Spin) -> Patience {
        Patience {
            spinner: Spinner::new(spin),
            ..Patience::default()
        }
    }

    /// Runs a system call until it succeeds, fails, or the deadline has passed. `call` is told whether it may
    /// wait.
    #[inline]
    pub(super) fn run<T>(
        &mut self,
        socket: BorrowedFd<'_>,
        deadline: Deadline,
        mut call: impl FnMut(bool) -> rustix::io::Result<T>,
    ) -> io::Result<T> {
        if self.spinner.is_on() {
            let found = self.spinner.spin(deadline, || match call(false) {
                Err(Errno::AGAIN | Errno::INTR) => None,
                result => Some(result),
            });
            if let Some(result) = found {
                return result.map_err(Into::into);
            }
        }
        let mut try_first = mem::take(&mut self.try_first) && deadline.is_timed();
        loop {
            let wait = !try_first && self.prepare(socket, deadline)?;
            match call(wait) {
                Ok(done) => return Ok(done),
                Err(Errno::AGAIN) if try_first => try_first = false,
                Err(Errno::AGAIN) if !wait => return Err(io::ErrorKind::TimedOut.into()),
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Makes the socket wait no longer than the deadline allows; whether it may wait at all.
    #[inline]
    fn prepare(&mut self, socket: BorrowedFd<'_>, deadline: Deadline) -> io::Result<bool> {
        let step = match deadline.remaining_at_least() {
            None if self.step.is_none() => return Ok(true),
            None => None,
            Some(Duration::ZERO) => return Ok(false),
            Some(left) => match self.step {
                Some(step) if step <= left && left <= self.reach => return Ok(true),
                _ => Some(step_within(left)),
            },
        };
        sockopt::set_socket_timeout(socket, Timeout::Recv, step)?;
        self.step = step;
        self.reach = match step {
            Some(LONGEST_STEP) => Duration::MAX,
            Some(step) => step * 4,
            None => Duration::ZERO,
        };
        Ok(true)
    }
}

/// The largest power of two of milliseconds that is not longer; the time itself below one.
fn step_within(left: Duration) -> Duration {
    match u64::try_from(left.as_millis())
        .unwrap_or(u64::MAX)
        .checked_ilog2()
    {
        Some(log) => Duration::from_millis(1 << log.min(63)).min(LONGEST_STEP),
        // An option of zero would mean for ever.
        None => left.max(Duration::from_micros(1)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn a_step_is_never_longer_than_the_time_left_and_never_zero() {
        for left in [1, 999, 1_000, 1_001, 3_999_999, 30_000_000, u64::MAX / 1000]
            .map(Duration::from_micros)
        {
            let step = step_within(left);
            assert!(step <= left && !step.is_zero(), "{left:?}: {step:?}");
            assert!(
                step * 2 > left || step == LONGEST_STEP,
                "{left:?}: {step:?}"
            );
        }
        assert_eq!(
            step_within(Duration::from_nanos(1)),
            Duration::from_micros(1)
        );
        assert_eq!(step_within(Duration::MAX), LONGEST_STEP);
    }

    #[test]
    fn a_deadline_that_stays_as_far_away_sets_the_option_once() {
        let (socket, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        let mut patience = Patience::default();
        patience
            .prepare(socket.as_fd(), Deadline::after(Duration::from_secs(30)))
            .unwrap();
        let step = patience.step;
        assert!(step.is_some());
        // Whoever sets it again would be seen: the option on the socket is not what the step says.
        sockopt::set_socket_timeout(&socket, Timeout::Recv, Some(Duration::from_secs(7))).unwrap();
        for _ in 0..100 {
            patience
                .prepare(socket.as_fd(), Deadline::after(Duration::from_secs(30)))
                .unwrap();
        }
        assert_eq!(patience.step, step);
        let option = sockopt::socket_timeout(&socket, Timeout::Recv).unwrap();
        assert_eq!(option, Some(Duration::from_secs(7)));
    }
}
