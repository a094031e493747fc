//! A global allocator that counts, to see what something costs in memory.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

/// The system's allocator, with books.
pub struct Counting {
    allocations: AtomicUsize,
    live: AtomicUsize,
    peak: AtomicUsize,
}

impl Counting {
    pub const fn new() -> Counting {
        Counting {
            allocations: AtomicUsize::new(0),
            live: AtomicUsize::new(0),
            peak: AtomicUsize::new(0),
        }
    }

    #[allow(dead_code, reason = "each test binary uses its own part of this")]
    /// How many times memory was asked for, by all threads together.
    pub fn allocations(&self) -> usize {
        self.allocations.load(Ordering::SeqCst)
    }

    /// How many bytes are in use.
    pub fn live(&self) -> usize {
        self.live.load(Ordering::SeqCst)
    }

    #[allow(dead_code, reason = "each test binary uses its own part of this")]
    /// The most bytes that were in use since the last [`forget_peak`](Counting::forget_peak).
    pub fn peak(&self) -> usize {
        self.peak.load(Ordering::SeqCst)
    }

    #[allow(dead_code, reason = "each test binary uses its own part of this")]
    pub fn forget_peak(&self) {
        self.peak.store(self.live(), Ordering::SeqCst);
    }

    fn add(&self, bytes: usize) {
        self.allocations.fetch_add(1, Ordering::Relaxed);
        let live = self.live.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.peak.fetch_max(live, Ordering::Relaxed);
    }

    fn subtract(&self, bytes: usize) {
        self.live.fetch_sub(bytes, Ordering::Relaxed);
    }
}

// SAFETY: every method passes its arguments on to the system's allocator as they are, and returns what that
// returns. The books are kept in atomics, which allocate nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.add(layout.size());
        // SAFETY: the caller keeps the contract of this same method.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        self.add(layout.size());
        // SAFETY: the caller keeps the contract of this same method.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        self.subtract(layout.size());
        // SAFETY: the caller keeps the contract of this same method, and all memory is the system's.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        self.add(size);
        self.subtract(layout.size());
        // SAFETY: the caller keeps the contract of this same method, and all memory is the system's.
        unsafe { System.realloc(memory, layout, size) }
    }
}
