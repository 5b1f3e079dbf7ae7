//! Blobs: one contract for a folder, memory and S3, and what a disk can do to a folder.

mod contract;
mod folder;
mod s3;
