//! How far a capture of outputs has come, said at intervals of bytes: a small one says nothing (runtime FI-5).

/// It is said each time so many more bytes have come.
const STEP: u64 = 64 << 20;

/// A capture on its way.
pub(in crate::provider) struct Progress<'a> {
    session: &'a str,
    files: usize,
    of_files: usize,
    bytes: u64,
    of_bytes: u64,
    /// The last whole step that was said.
    said: u64,
}

impl<'a> Progress<'a> {
    /// The beginning of a capture of files of these sizes, in bytes.
    pub(in crate::provider) fn new(
        session: &'a str,
        sizes: impl ExactSizeIterator<Item = u64>,
    ) -> Self {
        Self {
            session,
            files: 0,
            of_files: sizes.len(),
            bytes: 0,
            of_bytes: sizes.sum(),
            said: 0,
        }
    }

    /// So many more bytes have come.
    pub(in crate::provider) fn came(&mut self, bytes: usize) {
        if self.is_due(bytes as u64) {
            tracing::info!(
                session.id = self.session,
                files = self.files,
                of_files = self.of_files,
                bytes = self.bytes,
                of_bytes = self.of_bytes,
                "capturing outputs"
            );
        }
    }

    /// A file has come to its end, whether it is kept or not.
    pub(in crate::provider) fn file_ended(&mut self) {
        self.files += 1;
    }

    fn is_due(&mut self, bytes: u64) -> bool {
        self.bytes += bytes;
        let whole = self.bytes / STEP;
        std::mem::replace(&mut self.said, whole) < whole
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// runtime FI-5
    #[test]
    fn fi_5_a_large_capture_says_how_far_it_is_and_a_small_one_does_not() {
        #[track_caller]
        fn check(sizes: &[u64], piece: u64, expected: &[(usize, u64)]) {
            let mut progress = Progress::new("sesn_a", sizes.iter().copied());
            let mut said = Vec::new();
            for size in sizes {
                let mut left = *size;
                while left > 0 {
                    let bytes = left.min(piece);
                    left -= bytes;
                    if progress.is_due(bytes) {
                        said.push((progress.files, progress.bytes));
                    }
                }
                progress.file_ended();
            }
            assert_eq!(said, expected);
            assert_eq!(progress.files, progress.of_files);
            assert_eq!(progress.bytes, progress.of_bytes);
        }
        const MB: u64 = 1 << 20;
        check(&[], MB, &[]);
        check(&[3, 60 * MB, 0], MB, &[]);
        check(
            &[200 * MB],
            MB,
            &[(0, 64 * MB), (0, 128 * MB), (0, 192 * MB)],
        );
        // Many small files are as large as one large one.
        check(&[30 * MB; 5], 30 * MB, &[(2, 90 * MB), (4, 150 * MB)]);
        check(&[400 * MB], 400 * MB, &[(0, 400 * MB)]);
    }
}
