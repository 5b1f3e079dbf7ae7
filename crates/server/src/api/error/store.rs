//! What the store could not do, as clients read it.

use std::time::Duration;

use super::ApiError;

/// What the store could not do. The operator reads the cause in the log; the caller, what to do.
impl From<manyhands_store::Error> for ApiError {
    fn from(error: manyhands_store::Error) -> Self {
        use manyhands_store::Error as Store;
        match &error {
            Store::NoSpace { .. } => {
                metrics::counter!("manyhands_refused_total", "reason" => "disk_full").increment(1);
                Self::overloaded(
                    "the server's disk is full: nothing was written, and no new work is taken until there is room; \
                     what is stored can be read, and interrupts work",
                    Duration::from_secs(10),
                )
            }
            Store::Unavailable { .. } => {
                tracing::error!(%error, "the database did not answer");
                Self::unavailable(
                    "the database did not answer; try again",
                    Duration::from_secs(1),
                )
            }
            Store::Unknown { .. } => {
                tracing::error!(%error, "the database went away during a commit");
                Self {
                    should_retry: Some(false),
                    message: "the database went away while it kept this: it may be there or not; look before you repeat it"
                        .to_owned(),
                    ..Self::internal()
                }
            }
            Store::Damaged { item, .. } => {
                tracing::error!(%error, "a stored item is damaged");
                Self::damaged(item)
            }
            Store::OverQuota { what, quota, used } => {
                metrics::counter!("manyhands_refused_total", "reason" => "quota").increment(1);
                Self::invalid(format!(
                    "the workspace keeps {used} of the {quota} {what} that it may keep, and this would be more: delete some, or \
                     ask the operator for a higher quota"
                ))
                .with_code("storage_quota_exceeded")
            }
            Store::Setup { .. }
            | Store::Schema { .. }
            | Store::NotEmpty { .. }
            | Store::InUse { .. }
            | Store::Invalid { .. } => {
                tracing::error!(%error, "the database cannot be used");
                Self::internal()
            }
        }
    }
}
