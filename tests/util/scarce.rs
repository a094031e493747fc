//! A global allocator that refuses what is large, where a test asks for that.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::ptr;

/// The system's allocator, but for what is larger than the thread may have at once.
pub struct Scarce;

thread_local! {
    static MOST: Cell<usize> = const { Cell::new(usize::MAX) };
}

/// Runs something on this thread, which can have so many bytes at once and no more.
pub fn scarce<R>(most: usize, run: impl FnOnce() -> R) -> R {
    struct Restore;

    impl Drop for Restore {
        fn drop(&mut self) {
            MOST.set(usize::MAX);
        }
    }

    let _restore = Restore;
    MOST.set(most);
    run()
}

fn refuses(size: usize) -> bool {
    // While a thread ends there is no limit any more.
    MOST.try_with(|most| size > most.get()).unwrap_or(false)
}

// SAFETY: every method passes its arguments on to the system's allocator as they are and returns what that returns, or
// does nothing and returns null, which says that there is no memory.
unsafe impl GlobalAlloc for Scarce {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if refuses(layout.size()) {
            return ptr::null_mut();
        }
        // SAFETY: the caller keeps the contract of this same method.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if refuses(layout.size()) {
            return ptr::null_mut();
        }
        // SAFETY: the caller keeps the contract of this same method.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of this same method, and all memory is the system's.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if refuses(size) {
            return ptr::null_mut();
        }
        // SAFETY: the caller keeps the contract of this same method, and all memory is the system's.
        unsafe { System.realloc(memory, layout, size) }
    }
}
