//! Who must act on an error. The answer picks the reaction, everywhere the same.

/// Who caused an error, and therefore what happens next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// The other end of a connection sent nonsense: that connection is closed, nothing else.
    Peer,
    /// A person or program asked for something wrong: HTTP 4xx, exit code 2, an error reply.
    Caller,
    /// The machine or network failed us: retry within a limit, then report.
    World,
    /// A mistake of ours: the cluster concerned stops, with its story in the log.
    Ours,
}
