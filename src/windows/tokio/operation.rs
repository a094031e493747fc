//! One operation at a time, which keeps what the kernel writes to until it has ended, and wakes a task then.

use std::cell::UnsafeCell;
use std::ffi::c_void;
use std::future::poll_fn;
use std::io;
use std::mem;
use std::os::windows::io::{AsRawHandle, OwnedHandle};
use std::ptr;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;
use windows_sys::Win32::Foundation::{
    ERROR_IO_PENDING, ERROR_MORE_DATA, GetLastError, NTSTATUS, RtlNtStatusToDosError,
    STATUS_PENDING, WAIT_OBJECT_0,
};
use windows_sys::Win32::Storage::FileSystem::{ReadFile, WriteFile};
use windows_sys::Win32::System::IO::{CancelIoEx, OVERLAPPED};
use windows_sys::Win32::System::Pipes::ConnectNamedPipe;
use windows_sys::Win32::System::Threading::{
    CloseThreadpoolWait, CreateThreadpoolWait, PTP_CALLBACK_INSTANCE, PTP_WAIT, SetThreadpoolWait,
    WaitForSingleObject,
};
use windows_sys::core::BOOL;

use crate::windows::overlapped::{Done, Event};

/// How long the end of a cancelled operation is waited for, in milliseconds. A pipe cancels at once; what may take a
/// moment is to tell it.
const CANCELLED_WITHIN: u32 = 50;

/// The place of one operation, used again and again.
///
/// Whoever drops it closes the pipe of a pending operation as well: only then does the operation end, and its memory
/// go.
#[derive(Debug)]
pub(super) struct Operation(Arc<Shared>);

/// An operation that has ended.
#[derive(Debug)]
pub(super) struct Ended {
    /// What came of it, or the system's code.
    pub(super) result: Result<Done, u32>,
    /// What was written, or what was there with what was read behind it.
    pub(super) buffer: Vec<u8>,
}

/// How far the operation is.
#[derive(Debug)]
pub(super) enum Stage<T> {
    /// There is none.
    Idle,
    Pending,
    Ended(T),
}

impl Operation {
    pub(super) fn new() -> io::Result<Operation> {
        let shared = Arc::new(Shared {
            wait: OnceLock::new(),
            event: Event::new()?,
            overlapped: UnsafeCell::new(OVERLAPPED::default()),
            state: Mutex::new(State::default()),
        });
        let context = Arc::into_raw(shared);
        // SAFETY: the callback has the type that is asked for, and begins only when the wait is set, which is when
        // `context` is held for it. There is no environment to point to.
        let wait = unsafe {
            CreateThreadpoolWait(Some(signalled), context.cast_mut().cast(), ptr::null())
        };
        let error = io::Error::last_os_error();
        // SAFETY: the pointer came from an `Arc` two lines above, whose count nobody has taken back since.
        let shared = unsafe { Arc::from_raw(context) };
        if wait == 0 {
            return Err(error);
        }
        let wait = shared.wait.set(Wait(wait));
        debug_assert!(wait.is_ok(), "nobody else has set it");
        Ok(Operation(shared))
    }

    /// Begins to read a message, or as much of it as fits behind what is in the buffer.
    pub(super) fn read(&self, pipe: &OwnedHandle, mut buffer: Vec<u8>) -> Stage<Ended> {
        let handle = pipe.as_raw_handle();
        let spare = buffer.spare_capacity_mut();
        let length = u32::try_from(spare.len()).unwrap_or(u32::MAX);
        let to = spare.as_mut_ptr();
        let start = |overlapped| {
            // SAFETY: the handle is open; `to` points to that many bytes of the buffer's memory, and this memory and
            // the OVERLAPPED are kept and left alone until the operation has ended.
            unsafe { ReadFile(handle, to.cast(), length, ptr::null_mut(), overlapped) }
        };
        // SAFETY: `start` begins this one read, into the spare capacity of the buffer that is given along.
        unsafe { self.begin(Kind::Read, buffer, start) }
    }

    /// Begins to write a message of less than 4 GiB.
    pub(super) fn write(&self, pipe: &OwnedHandle, buffer: Vec<u8>) -> Stage<Ended> {
        let handle = pipe.as_raw_handle();
        let (from, length) = (buffer.as_ptr(), buffer.len() as u32);
        let start = |overlapped| {
            // SAFETY: the handle is open; `from` points to that many bytes of the buffer's memory, and this memory
            // and the OVERLAPPED are kept and left alone until the operation has ended.
            unsafe { WriteFile(handle, from, length, ptr::null_mut(), overlapped) }
        };
        // SAFETY: `start` begins this one write, from the buffer that is given along.
        unsafe { self.begin(Kind::Other, buffer, start) }
    }

    /// Begins to wait for a client.
    pub(super) fn connect(&self, pipe: &OwnedHandle) -> Stage<Ended> {
        let handle = pipe.as_raw_handle();
        // SAFETY: the handle is open, and the OVERLAPPED is kept and left alone until the operation has ended.
        let start = |overlapped| unsafe { ConnectNamedPipe(handle, overlapped) };
        // SAFETY: `start` begins this one operation, which has no buffer.
        unsafe { self.begin(Kind::Other, Vec::new(), start) }
    }

    /// Begins an operation: it has ended at once, or it is pending.
    ///
    /// # Safety
    ///
    /// `start` begins at most one operation, with the OVERLAPPED that it is given, returns what the system call
    /// returned, and does not panic. The operation touches no memory but the OVERLAPPED and that of the buffer, and
    /// initialises as many bytes behind the buffer's length as it says it has read, if it is a read.
    unsafe fn begin(
        &self,
        kind: Kind,
        buffer: Vec<u8>,
        start: impl FnOnce(*mut OVERLAPPED) -> BOOL,
    ) -> Stage<Ended> {
        let shared = &self.0;
        let mut state = shared.state.lock();
        assert!(state.phase == Phase::Idle, "one operation at a time");
        let overlapped = shared.overlapped.get();
        let fresh = OVERLAPPED {
            Internal: STATUS_PENDING as usize,
            hEvent: shared.event.as_raw_handle(),
            ..OVERLAPPED::default()
        };
        // SAFETY: no operation is pending, so that the kernel has no use for it, and others look at it with the lock
        // on the state only, which is held here.
        unsafe { overlapped.write(fresh) };
        state.kind = kind;
        state.buffer = buffer;
        if start(overlapped) == 0 {
            // SAFETY: reads the thread's last error.
            match unsafe { GetLastError() } {
                ERROR_IO_PENDING => {
                    state.phase = Phase::Pending;
                    shared.arm(&mut state);
                    return Stage::Pending;
                }
                // Complete; the count stands in the OVERLAPPED alone.
                ERROR_MORE_DATA => {}
                code => return Stage::Ended(state.finish(Err(code))),
            }
        }
        let result = shared.result();
        Stage::Ended(state.finish(result))
    }

    /// Whether there is no operation.
    pub(super) fn is_idle(&self) -> bool {
        self.0.state.lock().phase == Phase::Idle
    }

    /// Takes what came of the operation, if it has ended.
    pub(super) fn take(&self) -> Stage<Ended> {
        let mut state = self.0.state.lock();
        match state.phase {
            Phase::Idle => Stage::Idle,
            Phase::Pending if !self.0.has_ended() => Stage::Pending,
            Phase::Pending | Phase::Ended => Stage::Ended(state.finish(self.0.result())),
        }
    }

    /// Looks at what came of the operation, and leaves it.
    pub(super) fn look(&self) -> Stage<Result<Done, u32>> {
        let state = self.0.state.lock();
        match state.phase {
            Phase::Idle => Stage::Idle,
            Phase::Pending if !self.0.has_ended() => Stage::Pending,
            Phase::Pending | Phase::Ended => Stage::Ended(self.0.result()),
        }
    }

    /// Waits until there is something to take, or until it need not be waited for any more; says which. To be waited
    /// for by one task at a time.
    pub(super) async fn ended(&self, is_needed: impl Fn() -> bool) -> bool {
        // A task that waits no longer is not to be kept because it could be woken.
        let _forget = Forget(self);
        poll_fn(|cx| self.poll_ended(cx, &is_needed)).await
    }

    fn poll_ended(&self, cx: &mut Context<'_>, is_needed: impl Fn() -> bool) -> Poll<bool> {
        let mut state = self.0.state.lock();
        if state.phase != Phase::Pending || self.0.has_ended() {
            return Poll::Ready(true);
        }
        // Under the lock: whoever makes this so wakes the waker afterwards.
        if !is_needed() {
            return Poll::Ready(false);
        }
        let known = state.waker.as_ref();
        let old = if known.is_some_and(|known| known.will_wake(cx.waker())) {
            None
        } else {
            state.waker.replace(cx.waker().clone())
        };
        // Not under the lock: a waker may hold the last of a task, and that may hold this.
        drop(state);
        drop(old);
        Poll::Pending
    }

    /// Has whoever waits look again.
    pub(super) fn wake(&self) {
        let waker = self.0.state.lock().waker.take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Cancels the operation, if it is pending. It has ended when this returns, unless the system is not itself.
    pub(super) fn cancel(&self, pipe: &OwnedHandle) {
        let state = self.0.state.lock();
        if state.phase != Phase::Pending {
            return;
        }
        // SAFETY: the handle is open, and the OVERLAPPED is there. If the operation is complete already, there is nothing
        // to cancel, which is no failure.
        unsafe { CancelIoEx(pipe.as_raw_handle(), self.0.overlapped.get()) };
        // Not by the state: the callback, which comes as well, waits for the lock.
        self.0.is_signalled_within(CANCELLED_WITHIN);
    }
}

/// Cancels whatever operations of this process are pending on a pipe.
pub(super) fn cancel_all(pipe: &OwnedHandle) {
    // SAFETY: the handle is open, and no operation is named. That there is nothing to cancel is no failure.
    unsafe { CancelIoEx(pipe.as_raw_handle(), ptr::null()) };
}

impl Drop for Operation {
    fn drop(&mut self) {
        let state = self.0.state.lock();
        if state.armed && state.phase != Phase::Pending {
            // The end was noticed without the callback, and nothing else may signal the event again: the callback is
            // to come, and to let go of what it holds.
            self.0.event.set();
        }
    }
}

/// Forgets the task that waited.
struct Forget<'a>(&'a Operation);

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        // Not under the lock, as above.
        let waker = self.0.0.state.lock().waker.take();
        drop(waker);
    }
}

/// What the kernel and the thread pool have pointers to.
#[derive(Debug)]
struct Shared {
    /// Set once, by who made this. Closed before the event is.
    wait: OnceLock<Wait>,
    /// Set by the end of the operation.
    event: Event,
    overlapped: UnsafeCell<OVERLAPPED>,
    state: Mutex<State>,
}

// SAFETY: what is not `Send` is the OVERLAPPED, for the pointers in it: to the event, which is owned beside it and is the
// process's, not a thread's. Everything else is `Send`.
unsafe impl Send for Shared {}

// SAFETY: the OVERLAPPED is written to with the lock on the state and while no operation is pending, and read with that
// lock held, or by the kernel, whose writes are done when the event is set. Everything else is `Sync`.
unsafe impl Sync for Shared {}

#[derive(Debug, Default)]
struct State {
    phase: Phase,
    kind: Kind,
    /// The thread pool waits for the event, and has a count of the `Arc` for its callback.
    armed: bool,
    /// The operation's, from its beginning to its end.
    buffer: Vec<u8>,
    /// Who waits for the end.
    waker: Option<Waker>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Phase {
    #[default]
    Idle,
    /// The kernel has it, as far as is known.
    Pending,
    /// It is known that the kernel is done with it.
    Ended,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Kind {
    Read,
    /// Nothing is put into the buffer.
    #[default]
    Other,
}

impl State {
    /// Makes room for the next operation. The kernel is done with this one, and has put the bytes of a read, of which
    /// the result tells how many there are, behind those of the buffer.
    fn finish(&mut self, result: Result<Done, u32>) -> Ended {
        self.phase = Phase::Idle;
        let mut buffer = mem::take(&mut self.buffer);
        if let (Kind::Read, Ok(done)) = (self.kind, result) {
            let length = buffer.len() + done.count as usize;
            assert!(length <= buffer.capacity(), "no more than fits was read");
            // SAFETY: it is within the capacity, and the read has initialised that many bytes behind the length.
            unsafe { buffer.set_len(length) };
        }
        Ended { result, buffer }
    }
}

impl Shared {
    /// Has the thread pool call back when the event is set.
    fn arm(self: &Arc<Self>, state: &mut State) {
        // Armed already: an end was noticed before the callback came, which comes for this one then.
        let Some(wait) = self.wait.get().filter(|_| !state.armed) else {
            return;
        };
        state.armed = true;
        // What the callback lets go of.
        mem::forget(Arc::clone(self));
        // SAFETY: the wait is open and not set, and the event is owned by what the callback has just been given a
        // count of, so that it is there until then.
        unsafe { SetThreadpoolWait(wait.0, self.event.as_raw_handle(), ptr::null()) };
    }

    /// Whether the pending operation has ended. The event tells: the OVERLAPPED alone does not, since its two halves are
    /// written one after the other, but it costs nothing to ask it first.
    fn has_ended(&self) -> bool {
        self.status() != STATUS_PENDING && self.is_signalled_within(0)
    }

    fn is_signalled_within(&self, milliseconds: u32) -> bool {
        // SAFETY: the handle is an event and open.
        let waited = unsafe { WaitForSingleObject(self.event.as_raw_handle(), milliseconds) };
        waited == WAIT_OBJECT_0
    }

    fn status(&self) -> NTSTATUS {
        // SAFETY: a field of what is owned here, without a reference to the rest.
        let internal = unsafe { &raw const (*self.overlapped.get()).Internal };
        // SAFETY: it is valid and initialised; volatile, because the kernel may write to it meanwhile.
        let internal = unsafe { internal.read_volatile() };
        // The status has 32 bits, and the rest of the field is not always written to.
        internal as u32 as NTSTATUS
    }

    /// What came of an operation that has ended.
    fn result(&self) -> Result<Done, u32> {
        // SAFETY: a field of what is owned here, without a reference to the rest.
        let count = unsafe { &raw const (*self.overlapped.get()).InternalHigh };
        // SAFETY: it is valid and initialised, and the kernel is done with it.
        let count = unsafe { count.read_volatile() } as u32;
        let status = self.status();
        if status >= 0 {
            return Ok(Done { count, more: false });
        }
        // SAFETY: takes and returns a number.
        match unsafe { RtlNtStatusToDosError(status) } {
            ERROR_MORE_DATA => Ok(Done { count, more: true }),
            code => Err(code),
        }
    }
}

/// A wait of the thread pool.
#[derive(Debug)]
struct Wait(PTP_WAIT);

impl Drop for Wait {
    fn drop(&mut self) {
        // SAFETY: the wait is open. It is not set, since there is no count of the `Arc` left for a callback; and if this
        // is the callback that let go of the last one, it goes after that, as it may.
        unsafe { CloseThreadpoolWait(self.0) };
    }
}

/// What a thread of the pool calls when the event is set.
unsafe extern "system" fn signalled(
    _: PTP_CALLBACK_INSTANCE,
    context: *mut c_void,
    _: PTP_WAIT,
    _: u32,
) {
    // SAFETY: the context is the pointer of an `Arc`, a count of which was left for this callback when it was armed.
    let shared = unsafe { Arc::from_raw(context.cast::<Shared>().cast_const()) };
    let waker = {
        let mut state = shared.state.lock();
        state.armed = false;
        match state.phase {
            // This was for one before, the end of which was noticed otherwise.
            Phase::Pending if !shared.has_ended() => {
                shared.arm(&mut state);
                None
            }
            Phase::Pending => {
                state.phase = Phase::Ended;
                state.waker.take()
            }
            Phase::Idle | Phase::Ended => None,
        }
    };
    if let Some(waker) = waker {
        waker.wake();
    }
}

#[cfg(test)]
mod tests;
