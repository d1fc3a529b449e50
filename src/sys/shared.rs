//! Defines memory that the arbiter and its children share.
//!
//! Invariant: what lies in it is made of atomic numbers alone: no pointer, no lock and nothing that
//! can be torn, so whatever a child writes there, another process reads a number.

use std::io;
use std::num::NonZeroUsize;
use std::ops::Deref;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64};

use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous, munmap};

/// What may lie in shared memory. Define structures of it with `plain_struct!`.
///
/// # Safety
/// The type must consist of atomic integers alone, so that all zeroes is a value of it, every bit
/// pattern is a value of it, every access is atomic, and dropping it does nothing.
pub unsafe trait Plain: Sync {}

// SAFETY: an atomic integer.
unsafe impl Plain for AtomicU8 {}
// SAFETY: an atomic integer.
unsafe impl Plain for AtomicU16 {}
// SAFETY: an atomic integer.
unsafe impl Plain for AtomicU32 {}
// SAFETY: an atomic integer.
unsafe impl Plain for AtomicU64 {}
// SAFETY: an array adds nothing to its elements.
unsafe impl<T: Plain, const N: usize> Plain for [T; N] {}

/// Defines a structure that may lie in shared memory, and checks that each field may.
macro_rules! plain_struct {
    ($(#[$meta:meta])* $visibility:vis struct $name:ident {
        $($(#[$field_meta:meta])* $field_visibility:vis $field:ident: $type:ty),* $(,)?
    }) => {
        $(#[$meta])*
        #[repr(C)]
        $visibility struct $name {
            $($(#[$field_meta])* $field_visibility $field: $type),*
        }
        const _: () = {
            const fn must_be_plain<T: $crate::sys::shared::Plain>() {}
            $(must_be_plain::<$type>();)*
        };
        // SAFETY: every field is plain, which has just been checked, and a structure only adds
        // padding, which nobody reads.
        #[allow(unsafe_code, reason = "the macro is part of the sys room")]
        unsafe impl $crate::sys::shared::Plain for $name {}
    };
}
pub(crate) use plain_struct;

/// An array of `T` that this process shares with the children that it forks afterwards.
#[derive(Debug)]
pub struct Shared<T: Plain> {
    first: NonNull<T>,
    count: usize,
    bytes: NonZeroUsize,
}

impl<T: Plain> Shared<T> {
    /// Maps `count` elements, all zero. The kernel gives memory to the pages that are used.
    ///
    /// Fails with `InvalidInput` if that is no bytes or more than can be addressed.
    pub fn new(count: usize) -> io::Result<Self> {
        let bytes = count
            .checked_mul(size_of::<T>())
            .and_then(NonZeroUsize::new);
        let bytes = bytes.ok_or(io::ErrorKind::InvalidInput)?;
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // A small machine need not have as much memory as all elements would be.
        let flags = MapFlags::MAP_SHARED | MapFlags::MAP_NORESERVE;
        // SAFETY: a new mapping at an address that the kernel chooses replaces no other.
        let first = unsafe { mmap_anonymous(None, bytes, protection, flags) }?;
        Ok(Self {
            first: first.cast(),
            count,
            bytes,
        })
    }
}

impl<T: Plain> Deref for Shared<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: the mapping starts at a page, which suits any alignment in use; it holds `count`
        // elements for which zero is a value, lives as long as `self`, and `T` is atomic, so that
        // writes by other processes are no data races.
        unsafe { std::slice::from_raw_parts(self.first.as_ptr(), self.count) }
    }
}

impl<T: Plain> Drop for Shared<T> {
    fn drop(&mut self) {
        // SAFETY: this is the whole mapping, and no reference into it can outlive `self`. It can
        // fail only for an address that is no mapping's.
        let _ = unsafe { munmap(self.first.cast(), self.bytes.get()) };
    }
}

// SAFETY: it is an owned array of `T`, and `T` is atomic integers, which any thread may use.
unsafe impl<T: Plain> Send for Shared<T> {}
// SAFETY: as for Send; all access is by shared reference to atomics.
unsafe impl<T: Plain> Sync for Shared<T> {}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering::Relaxed;

    use super::*;
    use crate::sys::{fork_lock, process};

    plain_struct! {
        #[derive(Debug)]
        struct Pair {
            number: AtomicU64,
            text: [AtomicU8; 3],
        }
    }

    #[test]
    fn it_starts_as_zeroes_and_a_child_writes_for_its_parent() {
        let _forking = fork_lock::forking();
        let shared = Shared::<Pair>::new(1000).unwrap();
        assert_eq!(shared.len(), 1000);
        assert_eq!(shared[999].number.load(Relaxed), 0);
        let (reader, writer) = io::pipe().unwrap();
        process::fork(|| {
            shared[999].number.store(7, Relaxed);
            shared[0].text[2].store(9, Relaxed);
            0
        })
        .unwrap();
        // The pipe ends when the child, the other holder of the writing end, is gone.
        drop(writer);
        let mut nothing = Vec::new();
        io::Read::read_to_end(&mut { reader }, &mut nothing).unwrap();
        assert_eq!(shared[999].number.load(Relaxed), 7);
        assert_eq!(shared[0].text[2].load(Relaxed), 9);
    }

    #[test]
    fn impossible_sizes_are_refused() {
        for count in [0, usize::MAX] {
            let error = Shared::<Pair>::new(count).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        }
    }
}
