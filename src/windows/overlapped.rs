//! Overlapped operations, each waited for to its very end.
//!
//! The kernel writes into the OVERLAPPED and into the buffer of an operation until the operation has completed,
//! whatever the thread that started it does meanwhile. So [`Operation::run`] returns only after completion: when the
//! deadline passes, it cancels that one operation and waits for what came of it; if it completed after all, that
//! is the result. Only [`Operation::write_or_leave`] leaves a write to go on, in memory that it has for itself then.

use std::any::Any;
use std::cell::UnsafeCell;
use std::fmt;
use std::hint;
use std::io;
use std::mem::{self, MaybeUninit};
use std::os::windows::io::{AsRawHandle, FromRawHandle, OwnedHandle, RawHandle};
use std::panic::{self, AssertUnwindSafe};
use std::ptr;
use std::time::Duration;

use windows_sys::Win32::Foundation::{
    ERROR_IO_PENDING, ERROR_MORE_DATA, ERROR_OPERATION_ABORTED, GetLastError, STATUS_PENDING,
    WAIT_OBJECT_0, WAIT_TIMEOUT,
};
use windows_sys::Win32::Storage::FileSystem::{ReadFile, WriteFile};
use windows_sys::Win32::System::IO::{CancelIoEx, GetOverlappedResult, OVERLAPPED};
use windows_sys::Win32::System::Pipes::{ConnectNamedPipe, TransactNamedPipe};
use windows_sys::Win32::System::Threading::{
    CreateEventW, INFINITE, ResetEvent, SetEvent, WaitForMultipleObjects,
};
use windows_sys::core::BOOL;

use super::begin::{Begun, Write};
use crate::Deadline;
use crate::base::spin::Spinner;

/// An event that stays set until it is reset.
#[derive(Debug)]
pub(super) struct Event(OwnedHandle);

impl Event {
    pub(super) fn new() -> io::Result<Event> {
        // SAFETY: there is no attribute and no name to point to.
        let handle = unsafe { CreateEventW(ptr::null(), 1, 0, ptr::null()) };
        if handle.is_null() {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the handle was just created and nobody else has it.
        Ok(Event(unsafe { OwnedHandle::from_raw_handle(handle) }))
    }

    pub(super) fn set(&self) {
        // SAFETY: the handle is an event and open. Setting an event that is there cannot fail.
        unsafe { SetEvent(self.0.as_raw_handle()) };
    }

    pub(super) fn reset(&self) {
        // SAFETY: the handle is an event and open. Resetting an event that is there cannot fail.
        unsafe { ResetEvent(self.0.as_raw_handle()) };
    }
}

#[cfg(test)]
impl From<Event> for OwnedHandle {
    fn from(Event(handle): Event) -> OwnedHandle {
        handle
    }
}

impl AsRawHandle for Event {
    fn as_raw_handle(&self) -> RawHandle {
        self.0.as_raw_handle()
    }
}

/// How often it is looked what there is to do while an operation waits: a pipe has no event for what arrives.
const SHORTEST_STEP: Duration = Duration::from_millis(1);
const LONGEST_STEP: Duration = Duration::from_millis(16);

/// Which of two events came first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Woken {
    First,
    Second,
    Deadline,
}

/// Waits for either event; if both are set, the first counts.
pub(super) fn wait(first: &Event, second: &Event, deadline: Deadline) -> io::Result<Woken> {
    const SECOND: u32 = WAIT_OBJECT_0 + 1;
    let handles = [first.0.as_raw_handle(), second.0.as_raw_handle()];
    loop {
        let timeout = milliseconds(deadline);
        // SAFETY: both handles are events, borrowed for the whole call, and the count is that of the array.
        match unsafe { WaitForMultipleObjects(2, handles.as_ptr(), 0, timeout) } {
            WAIT_OBJECT_0 => return Ok(Woken::First),
            SECOND => return Ok(Woken::Second),
            WAIT_TIMEOUT if deadline.has_passed() => return Ok(Woken::Deadline),
            // A deadline that is farther away than one wait can be, or a clock that differs.
            WAIT_TIMEOUT => {}
            _ => return Err(io::Error::last_os_error()),
        }
    }
}

/// The time to a deadline as a wait takes it: rounded up, so that no wait ends too early.
pub(super) fn milliseconds(deadline: Deadline) -> u32 {
    match deadline.remaining() {
        None => INFINITE,
        Some(left) => u32::try_from(left.as_nanos().div_ceil(1_000_000))
            .map_or(INFINITE - 1, |ms| ms.min(INFINITE - 1)),
    }
}

/// What came of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Done {
    /// How many bytes were transferred.
    pub(super) count: u32,
    /// Whether the message has more (ERROR_MORE_DATA).
    pub(super) more: bool,
}

/// Why an operation did nothing.
#[derive(Debug)]
pub(super) enum Undone {
    /// The deadline passed, and the operation was cancelled.
    TimedOut,
    /// The `stop` event was set, and the operation was cancelled.
    Stopped,
    /// The system's error code.
    Code(u32),
}

/// What receives while a send has to wait, and says whether there was anything to receive.
pub(super) type Meanwhile<'a> = Option<&'a mut (dyn FnMut() -> bool + 'a)>;

/// What an operation is done on, and how long it may take.
pub(super) struct Operation<'a, 'b> {
    pub(super) pipe: &'a OwnedHandle,
    /// The operation's own: no two operations wait on one event.
    pub(super) event: &'a mut Event,
    /// Ends the wait early.
    pub(super) stop: &'a Event,
    pub(super) deadline: Deadline,
    /// Called now and then while the operation has to wait; it says whether there is much to do.
    pub(super) meanwhile: Meanwhile<'b>,
    /// What looks for the end of the operation before it is waited for.
    pub(super) spinner: Option<&'a mut Spinner>,
}

impl<'a> Operation<'a, '_> {
    pub(super) fn new(
        pipe: &'a OwnedHandle,
        event: &'a mut Event,
        stop: &'a Event,
        deadline: Deadline,
    ) -> Self {
        Operation {
            pipe,
            event,
            stop,
            deadline,
            meanwhile: None,
            spinner: None,
        }
    }
}

impl Operation<'_, '_> {
    /// Reads a message, or as much of it as fits; nothing of `buf` is read, and as many bytes as were
    /// transferred are initialised.
    pub(super) fn read(self, buf: &mut [MaybeUninit<u8>]) -> Result<Done, Undone> {
        let handle = self.pipe.as_raw_handle();
        let length = u32::try_from(buf.len()).unwrap_or(u32::MAX);
        let start = |overlapped| {
            // SAFETY: the handle is open, `buf` has at least `length` bytes, and both are borrowed, with the
            // OVERLAPPED, until the operation has ended.
            unsafe {
                ReadFile(
                    handle,
                    buf.as_mut_ptr().cast(),
                    length,
                    ptr::null_mut(),
                    overlapped,
                )
            }
        };
        // SAFETY: `start` begins this one read, whose buffer is borrowed for the whole call.
        unsafe { self.run(start) }
    }

    /// Writes a message of less than 4 GiB.
    pub(super) fn write(self, message: &[u8]) -> Result<Done, Undone> {
        let handle = self.pipe.as_raw_handle();
        let start = |overlapped| {
            // SAFETY: the handle is open, `message` has that many bytes, and both are borrowed, with the
            // OVERLAPPED, until the operation has ended.
            unsafe {
                WriteFile(
                    handle,
                    message.as_ptr(),
                    message.len() as u32,
                    ptr::null_mut(),
                    overlapped,
                )
            }
        };
        // SAFETY: `start` begins this one write, whose buffer is borrowed for the whole call.
        unsafe { self.run(start) }
    }

    /// Writes a request of less than 4 GiB, and reads the reply, or as much of it as fits.
    pub(super) fn transact(self, request: &[u8], reply: &mut [u8]) -> Result<Done, Undone> {
        let handle = self.pipe.as_raw_handle();
        let length = u32::try_from(reply.len()).unwrap_or(u32::MAX);
        let start = |overlapped| {
            // SAFETY: the handle is open, the buffers have at least that many bytes, and all are borrowed, with
            // the OVERLAPPED, until the operation has ended.
            unsafe {
                TransactNamedPipe(
                    handle,
                    request.as_ptr().cast(),
                    request.len() as u32,
                    reply.as_mut_ptr().cast(),
                    length,
                    ptr::null_mut(),
                    overlapped,
                )
            }
        };
        // SAFETY: `start` begins this one transaction, whose buffers are borrowed for the whole call.
        unsafe { self.run(start) }
    }

    /// Waits for a client.
    pub(super) fn connect(self) -> Result<Done, Undone> {
        let handle = self.pipe.as_raw_handle();
        // SAFETY: the handle is open, and borrowed, with the OVERLAPPED, until the operation has ended.
        let start = |overlapped| unsafe { ConnectNamedPipe(handle, overlapped) };
        // SAFETY: `start` begins this one operation, which has no buffer.
        unsafe { self.run(start) }
    }

    /// Runs one operation to its end.
    ///
    /// # Safety
    ///
    /// `start` begins at most one operation, on the pipe, with the OVERLAPPED that it is given, returns what the
    /// system call returned, and does not panic. The buffers of the operation stay valid until this returns.
    unsafe fn run(mut self, start: impl FnOnce(*mut OVERLAPPED) -> BOOL) -> Result<Done, Undone> {
        let mut overlapped = OVERLAPPED {
            hEvent: self.event.0.as_raw_handle(),
            ..OVERLAPPED::default()
        };
        // From here on the kernel may write to it, so that it is used by this pointer only.
        let overlapped = &raw mut overlapped;
        let returned = start(overlapped);
        // SAFETY: reads the thread's last error.
        let code = unsafe { GetLastError() };
        if let Some(ended) = self.ended_at_once((returned, code), overlapped) {
            return ended;
        }
        self.spin(overlapped);
        let (waited, panic) = self.wait();
        match why_ended(waited) {
            None => self.result(overlapped, false),
            Some(why) => self.cancel(overlapped, why, panic),
        }
    }

    /// What came of an operation that has ended with the system call that began it.
    fn ended_at_once(
        &self,
        begun: Begun,
        overlapped: *mut OVERLAPPED,
    ) -> Option<Result<Done, Undone>> {
        match begun {
            (0, ERROR_IO_PENDING) => None,
            // Complete; the count stands in the OVERLAPPED alone.
            (0, ERROR_MORE_DATA) => Some(self.result(overlapped, false)),
            (0, code) => Some(Err(Undone::Code(code))),
            _ => Some(self.result(overlapped, false)),
        }
    }

    /// Cancels a pending operation, and waits for its end.
    fn cancel(
        &self,
        overlapped: *mut OVERLAPPED,
        why: Undone,
        panic: Option<Box<dyn Any + Send>>,
    ) -> Result<Done, Undone> {
        // SAFETY: the OVERLAPPED is that of the operation, and valid until the operation has ended below. If the
        // operation is complete already, there is nothing to cancel, which is no failure.
        unsafe { CancelIoEx(self.pipe.as_raw_handle(), overlapped) };
        let ended = self.result(overlapped, true);
        if let Some(panic) = panic {
            // The operation has ended: now it may unwind.
            panic::resume_unwind(panic);
        }
        match ended {
            Err(Undone::Code(ERROR_OPERATION_ABORTED)) => Err(why),
            // It completed before it could be cancelled.
            ended => ended,
        }
    }

    /// Writes a message of less than 4 GiB, which begins in `message` behind `room` bytes. If the deadline passes, the
    /// write is left to go on, with the vector, in place of which there is an empty one then.
    ///
    /// `block` is kept for the next time.
    pub(super) fn write_or_leave(
        mut self,
        message: &mut Vec<u8>,
        room: usize,
        block: &mut Option<Block>,
    ) -> Result<Result<Done, Undone>, Left> {
        let own = block.take().unwrap_or_default();
        let overlapped = own.0.get();
        let fresh = OVERLAPPED {
            hEvent: self.event.0.as_raw_handle(),
            ..OVERLAPPED::default()
        };
        // SAFETY: it is a valid place, and no operation is under way in it: one that is has its block for itself.
        unsafe { overlapped.write(fresh) };
        let size = message.len() - room;
        let write = Write {
            handle: self.pipe.as_raw_handle(),
            from: message[room..].as_ptr(),
            length: size as u32,
            overlapped,
        };
        // SAFETY: the handle is open, and `from` points to that many bytes. They and the OVERLAPPED stay where they are and
        // are left alone until the operation has ended: until this returns, or for as long as `Left` is there, to which
        // both are given with what owns them, without moving what is on the heap.
        let begun = unsafe { write.begin() };
        let ended = match self.ended_at_once(begun, overlapped) {
            Some(ended) => ended,
            None => {
                let (waited, panic) = self.wait();
                match why_ended(waited) {
                    None => self.result(overlapped, false),
                    Some(Undone::TimedOut) => match (Event::new(), self.pipe.try_clone()) {
                        (Ok(event), Ok(pipe)) => {
                            return Err(Left {
                                pipe,
                                event: mem::replace(self.event, event),
                                block: own,
                                size,
                                _message: mem::take(message),
                            });
                        }
                        _ => self.cancel(overlapped, Undone::TimedOut, panic),
                    },
                    Some(why) => self.cancel(overlapped, why, panic),
                }
            }
        };
        *block = Some(own);
        Ok(ended)
    }

    /// Looks for the end of the operation for a while. It is waited for all the same, because the event has to be that
    /// of no other operation when the next one begins; but then nobody sleeps.
    fn spin(&mut self, overlapped: *const OVERLAPPED) {
        let deadline = self.deadline;
        let Some(spinner) = self.spinner.as_deref_mut().filter(|it| it.is_on()) else {
            return;
        };
        // SAFETY: the OVERLAPPED is that of the operation, and lives until the operation has ended.
        let status = unsafe { &raw const (*overlapped).Internal };
        spin_in_memory(spinner, deadline, || {
            // SAFETY: it is aligned and initialised, and whatever the kernel writes to it meanwhile is a status; that
            // another writes is why it is read as volatile.
            let status = unsafe { ptr::read_volatile(status) };
            // As `HasOverlappedIoCompleted` does:
            // <https://learn.microsoft.com/en-us/windows/win32/api/ioapiset/nf-ioapiset-hasoverlappediocompleted>
            status as i32 != STATUS_PENDING
        });
    }

    /// Waits for the operation, and does what there is to do meanwhile. A panic of that is caught, because the
    /// kernel still has the buffers; it counts as being stopped.
    fn wait(&mut self) -> (io::Result<Woken>, Option<Box<dyn Any + Send>>) {
        let Some(meanwhile) = &mut self.meanwhile else {
            return (wait(self.event, self.stop, self.deadline), None);
        };
        let mut step = SHORTEST_STEP;
        loop {
            let until = self.deadline.min(Deadline::after(step));
            match wait(self.event, self.stop, until) {
                Ok(Woken::Deadline) if !self.deadline.has_passed() => {}
                waited => return (waited, None),
            }
            match panic::catch_unwind(AssertUnwindSafe(&mut *meanwhile)) {
                Ok(true) => step = SHORTEST_STEP,
                Ok(false) => step = (step * 2).min(LONGEST_STEP),
                Err(panic) => return (Ok(Woken::Second), Some(panic)),
            }
        }
    }

    /// The result of an operation that has ended, or with `wait` the one of an operation that is about to.
    fn result(&self, overlapped: *const OVERLAPPED, wait: bool) -> Result<Done, Undone> {
        let mut count = 0;
        let handle = self.pipe.as_raw_handle();
        // SAFETY: the OVERLAPPED is that of an operation on this handle and alive, its event is set by the
        // operation's end and by nothing else, and `count` lives through the call.
        let done =
            unsafe { GetOverlappedResult(handle, overlapped, &raw mut count, BOOL::from(wait)) };
        if done != 0 {
            return Ok(Done { count, more: false });
        }
        // SAFETY: reads the thread's last error.
        match unsafe { GetLastError() } {
            ERROR_MORE_DATA => Ok(Done { count, more: true }),
            code => Err(Undone::Code(code)),
        }
    }
}

/// Why an operation is to be cancelled that was waited for; not if it has ended.
fn why_ended(waited: io::Result<Woken>) -> Option<Undone> {
    match waited {
        Ok(Woken::First) => None,
        Ok(Woken::Second) => Some(Undone::Stopped),
        Ok(Woken::Deadline) => Some(Undone::TimedOut),
        Err(error) => Some(Undone::Code(error.raw_os_error().unwrap_or_default() as u32)),
    }
}

/// What the kernel writes to while an operation goes on, and what stays where it is meanwhile.
#[derive(Default)]
pub(super) struct Block(Box<UnsafeCell<OVERLAPPED>>);

// SAFETY: it is memory, in which a pointer is a handle's number and used for nothing else. Whoever has it is the only one
// to use it, but for the kernel, to which threads do not matter.
unsafe impl Send for Block {}

impl fmt::Debug for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Block").finish_non_exhaustive()
    }
}

/// A write that goes on although the deadline of the one that began it has passed. Dropping it cancels it.
///
/// It has all that the kernel uses: the memory, and a handle of its own to cancel by. A [thread that stays](super::begin)
/// has begun it.
#[derive(Debug)]
pub(super) struct Left {
    pipe: OwnedHandle,
    event: Event,
    block: Block,
    size: usize,
    /// What is written.
    _message: Vec<u8>,
}

impl Left {
    /// How large the message is.
    pub(super) fn size(&self) -> usize {
        self.size
    }

    /// Waits for its end. If that was not [in time](Undone::TimedOut), it still goes on.
    pub(super) fn wait(
        &mut self,
        stop: &Event,
        deadline: Deadline,
        meanwhile: Meanwhile<'_>,
    ) -> Result<Done, Undone> {
        let overlapped = self.block.0.get();
        let mut operation = Operation::new(&self.pipe, &mut self.event, stop, deadline);
        operation.meanwhile = meanwhile;
        let (waited, panic) = operation.wait();
        if let Some(panic) = panic {
            panic::resume_unwind(panic);
        }
        match why_ended(waited) {
            None => operation.result(overlapped, false),
            Some(why) => Err(why),
        }
    }
}

impl Drop for Left {
    fn drop(&mut self) {
        let overlapped = self.block.0.get();
        // SAFETY: the handle is open, and the OVERLAPPED is that of the operation. If that has ended, there is nothing to
        // cancel, which is no failure.
        unsafe { CancelIoEx(self.pipe.as_raw_handle(), overlapped) };
        let mut count = 0;
        // SAFETY: as above, and `count` lives through the call. It returns when the operation has ended, so that nobody
        // uses the memory any more when it goes.
        unsafe {
            GetOverlappedResult(
                self.pipe.as_raw_handle(),
                overlapped,
                &raw mut count,
                BOOL::from(true),
            )
        };
    }
}

/// How often a look that costs next to nothing is taken before others may have the processor.
const LOOKS: u32 = 32;

/// Spins where looking asks nobody but memory.
fn spin_in_memory(spinner: &mut Spinner, deadline: Deadline, is_done: impl Fn() -> bool) {
    let look = || {
        let mut looks = 0..LOOKS;
        let found = looks.any(|_| {
            hint::spin_loop();
            is_done()
        });
        found.then_some(())
    };
    spinner.spin(deadline, look);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_rounded_up_and_never_infinite_by_accident() {
        assert_eq!(milliseconds(Deadline::NEVER), INFINITE);
        assert_eq!(milliseconds(Deadline::NOW), 0);
        assert_eq!(
            milliseconds(Deadline::after(Duration::from_secs(1 << 32))),
            INFINITE - 1
        );
        let some = milliseconds(Deadline::after(Duration::from_micros(10_900)));
        assert!((1..=11).contains(&some), "{some}");
    }

    #[test]
    fn the_first_of_two_set_events_counts() {
        let (first, second) = (Event::new().unwrap(), Event::new().unwrap());
        assert_eq!(
            wait(&first, &second, Deadline::NOW).unwrap(),
            Woken::Deadline
        );
        second.set();
        assert_eq!(
            wait(&first, &second, Deadline::NEVER).unwrap(),
            Woken::Second
        );
        first.set();
        assert_eq!(
            wait(&first, &second, Deadline::NEVER).unwrap(),
            Woken::First
        );
        first.reset();
        assert_eq!(wait(&first, &second, Deadline::NOW).unwrap(), Woken::Second);
    }
}
