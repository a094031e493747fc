//! That nothing piles up: handles, threads.

use std::future::{Future, poll_fn};
use std::io;
use std::os::windows::io::{AsRawHandle, FromRawHandle, OwnedHandle};
use std::pin::pin;
use std::process;
use std::task::Poll;

use ::tokio::runtime::Builder;
use windows_sys::Win32::Foundation::INVALID_HANDLE_VALUE;
use windows_sys::Win32::System::Diagnostics::ToolHelp::{
    CreateToolhelp32Snapshot, TH32CS_SNAPTHREAD, THREADENTRY32, Thread32First, Thread32Next,
};
use windows_sys::Win32::System::Threading::{GetCurrentProcess, GetProcessHandleCount};

use super::*;
use crate::transport::tokio::{Listener as _, Stream as _};

/// How many handles this process has; `None` where the system does not tell.
fn handles() -> Option<u32> {
    let mut count = 0;
    // SAFETY: returns a pseudo handle, which needs no closing.
    let process = unsafe { GetCurrentProcess() };
    // SAFETY: the handle is that of this process, and `count` lives through the call.
    let done = unsafe { GetProcessHandleCount(process, &raw mut count) };
    // Wine 8 says that there are none.
    (done != 0 && count > 0).then_some(count)
}

/// The number of a new handle. The system gives away the numbers of handles that were closed, so that it grows only if
/// they are not.
fn next_handle() -> usize {
    let event = crate::windows::overlapped::Event::new().unwrap();
    event.as_raw_handle() as usize
}

/// How many threads this process has.
fn threads() -> usize {
    // SAFETY: takes numbers and returns a handle.
    let snapshot = unsafe { CreateToolhelp32Snapshot(TH32CS_SNAPTHREAD, 0) };
    assert!(
        snapshot != INVALID_HANDLE_VALUE,
        "{}",
        io::Error::last_os_error()
    );
    // SAFETY: the handle was just opened and nobody else has it.
    let snapshot = unsafe { OwnedHandle::from_raw_handle(snapshot) };
    let mut entry = THREADENTRY32 {
        dwSize: size_of::<THREADENTRY32>() as u32,
        ..THREADENTRY32::default()
    };
    let mut count = 0;
    // SAFETY: the snapshot is open, and the entry has its size in it.
    let mut more = unsafe { Thread32First(snapshot.as_raw_handle(), &raw mut entry) };
    while more != 0 {
        count += usize::from(entry.th32OwnerProcessID == process::id());
        // SAFETY: as above.
        more = unsafe { Thread32Next(snapshot.as_raw_handle(), &raw mut entry) };
    }
    assert!(count > 0, "this thread at least");
    count
}

/// Polls a future once, which has to wait, and drops it.
async fn begin_and_drop(future: impl Future) {
    let mut future = pin!(future);
    let pending = poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx).is_pending()));
    assert!(pending.await, "it had nothing to wait for");
}

/// Connections that go while everything is pending that can be.
async fn come_and_go(listener: &Listener, name: &Name, rounds: usize) {
    let large = vec![7; 200_000];
    for round in 0..rounds {
        begin_and_drop(listener.accept(Deadline::NEVER)).await;
        let client = Os::connect(&ConnectOptions::new(), name, Deadline::NEVER).await;
        let client = client.unwrap();
        let server = listener.accept(Deadline::NEVER).await.unwrap();
        let mut message = Vec::new();
        begin_and_drop(server.recv_message(&mut message, Deadline::NEVER)).await;
        begin_and_drop(client.recv(&mut [0; 8], Deadline::NEVER)).await;
        if round % 2 == 0 {
            begin_and_drop(client.send(&large, Deadline::NEVER)).await;
        }
        if round % 3 == 0 {
            client.close();
        }
        drop((server, client));
    }
}

#[test]
fn neither_handles_nor_threads_pile_up() {
    // Those of the tests that run at the same time.
    const OTHERS: usize = 200;
    const ROUNDS: usize = 1_000;
    let runtime = Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let name = Name::new(&format!("pipetalk-pile-{}", process::id())).unwrap();
        let listener = Os::bind(&ListenOptions::new(), &name).unwrap();
        come_and_go(&listener, &name, 50).await;
        let before = (handles(), next_handle(), threads());
        come_and_go(&listener, &name, ROUNDS).await;
        let after = (handles(), next_handle(), threads());
        let counts = before.0.zip(after.0);
        let grown = counts.map(|(before, after)| after.saturating_sub(before) as usize);
        assert!(grown.unwrap_or(0) < OTHERS, "{before:?} {after:?}");
        // Numbers are multiples of four.
        assert!(after.1 < before.1 + 4 * OTHERS, "{before:?} {after:?}");
        assert!(after.2 < before.2 + OTHERS, "{before:?} {after:?}");
    });
}
