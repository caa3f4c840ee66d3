//! Memory for big frames, straight from the kernel.
//!
//! A scatter or a gather of gigabytes passes through: what is mapped for it goes back to the system with its last byte,
//! whatever the heap would have kept, and pages of 2 MiB cost a fraction of the page faults.

use memmap2::MmapMut;

use crate::wire::frame::FrameMemory;

/// A number of bytes, of which the kernel provides those that are touched. None: the address space is full or limited.
pub(super) fn map(len: usize) -> Option<Box<dyn FrameMemory>> {
    let map = MmapMut::map_anon(len).ok()?;
    #[cfg(target_os = "linux")]
    // Kernels without huge pages, or told not to use them, go on with small ones.
    let _ = map.advise(memmap2::Advice::HugePage);
    Some(Box::new(map))
}
