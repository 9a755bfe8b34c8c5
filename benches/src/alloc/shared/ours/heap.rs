//! What a workload asks of a heap that several processes map.

/// A heap, as one process has it. A block is told by its address, which is the same everywhere.
pub(super) trait SharedHeap {
    /// A block of so many bytes, eight at least, that only this process knows.
    fn allocate(&mut self, bytes: usize) -> anyhow::Result<usize>;
    /// Lets it outlive this process.
    fn publish(&mut self, at: usize) -> anyhow::Result<()>;
    /// Gives it back, whoever allocated it.
    fn free(&mut self, at: usize) -> anyhow::Result<()>;
    /// Sees to it that a block of another process can be reached here.
    fn resolve(&self, at: usize) -> anyhow::Result<()>;
    /// Writes its first word.
    fn write(&mut self, at: usize, word: u64) -> anyhow::Result<()>;
    /// Reads its first word.
    fn read(&self, at: usize) -> anyhow::Result<u64>;
}
