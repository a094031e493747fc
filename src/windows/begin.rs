//! A thread that begins writes for others, and stays.
//!
//! The system cancels what a thread has begun when that thread ends, and a write that is
//! [left to go on](super::overlapped::Left) may have been begun by one that is about to.
//! <https://learn.microsoft.com/en-us/windows/win32/fileio/canceling-pending-i-o-operations>

use std::os::windows::io::RawHandle;
use std::ptr;
use std::thread;

use parking_lot::{Condvar, Mutex};
use windows_sys::Win32::Foundation::GetLastError;
use windows_sys::Win32::Storage::FileSystem::WriteFile;
use windows_sys::Win32::System::IO::OVERLAPPED;
use windows_sys::core::BOOL;

/// A write that is to begin.
#[derive(Debug, Clone, Copy)]
pub(super) struct Write {
    pub(super) handle: RawHandle,
    pub(super) from: *const u8,
    pub(super) length: u32,
    pub(super) overlapped: *mut OVERLAPPED,
}

// SAFETY: these are a number and places in memory, which are the same for all threads; whoever makes use of them says
// why he may.
unsafe impl Send for Write {}

/// What the system call returned that began it, and the thread's last error then.
pub(super) type Begun = (BOOL, u32);

impl Write {
    /// Begins it on this thread.
    ///
    /// # Safety
    ///
    /// The handle is open; `from` points to that many bytes; these and the OVERLAPPED, in which no operation is under
    /// way, stay where they are and are left alone until the operation has ended.
    pub(super) unsafe fn begin_here(self) -> Begun {
        let Write {
            handle,
            from,
            length,
            overlapped,
        } = self;
        // SAFETY: the caller vouches for all of that.
        let returned = unsafe { WriteFile(handle, from, length, ptr::null_mut(), overlapped) };
        // SAFETY: reads the thread's last error.
        (returned, unsafe { GetLastError() })
    }

    /// Begins it on the thread that stays, if there can be one, and returns when it has begun.
    ///
    /// # Safety
    ///
    /// As [`begin_here`](Self::begin_here).
    pub(super) unsafe fn begin(self) -> Begun {
        if let Some(begun) = DESK.begin(self) {
            return begun;
        }
        // SAFETY: the caller vouches for what that asks for.
        unsafe { self.begin_here() }
    }
}

static DESK: Desk = Desk {
    turn: Mutex::new(()),
    state: Mutex::new(State {
        running: false,
        write: None,
        begun: None,
    }),
    changed: Condvar::new(),
};

/// Where the thread and those that it works for meet.
struct Desk {
    /// One after the other.
    turn: Mutex<()>,
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    running: bool,
    write: Option<Write>,
    begun: Option<Begun>,
}

impl Desk {
    fn begin(&'static self, write: Write) -> Option<Begun> {
        let _turn = self.turn.lock();
        let mut state = self.state.lock();
        if !state.running {
            let thread = thread::Builder::new().name("pipetalk-write".to_owned());
            state.running = thread.spawn(|| self.run()).is_ok();
        }
        if !state.running {
            return None;
        }
        state.write = Some(write);
        self.changed.notify_all();
        self.changed
            .wait_while(&mut state, |state| state.begun.is_none());
        state.begun.take()
    }

    fn run(&self) {
        let mut state = self.state.lock();
        loop {
            if let Some(write) = state.write.take() {
                // SAFETY: whoever asks for it vouches for that, and waits until it has begun.
                state.begun = Some(unsafe { write.begin_here() });
                self.changed.notify_all();
            }
            self.changed.wait(&mut state);
        }
    }
}
