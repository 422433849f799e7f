//! Everything that touches io_uring: the block device and the sockets of one ring.
