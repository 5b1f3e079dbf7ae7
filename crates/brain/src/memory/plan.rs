//! What is to be done with one memory, from its text in the store, in the sandbox, and when both were last the same (pure).

/// What is to be done. Texts are known by their hashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing.
    Nothing,
    /// Both are the same by themselves: that is noted.
    Agree,
    /// The store's text goes into the sandbox.
    Lay,
    /// The file goes from the sandbox.
    Take,
    /// The sandbox's text goes into the store.
    Push,
    /// The memory goes from the store.
    Drop,
    /// Both have changed: the store's state goes into the sandbox, and what was there is kept beside it.
    Yield,
}

/// Decides (runtime ME-15).
pub(super) fn step(base: Option<&str>, sandbox: Option<&str>, store: Option<&str>) -> Step {
    if sandbox == store {
        return if base == store {
            Step::Nothing
        } else {
            Step::Agree
        };
    }
    match (sandbox, store) {
        (_, Some(_)) if sandbox == base => Step::Lay,
        (_, None) if sandbox == base => Step::Take,
        (Some(_), _) if store == base => Step::Push,
        (None, _) if store == base => Step::Drop,
        _ => Step::Yield,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// runtime ME-15: of all that can have happened on both sides, nothing overwrites what it has not seen.
    #[test]
    fn me_15_a_change_goes_over_when_the_other_side_has_none() {
        #[track_caller]
        fn check(base: &str, sandbox: &str, store: &str, expected: Step) {
            let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
            let (base, sandbox, store) = (some(base), some(sandbox), some(store));
            let found = step(base.as_deref(), sandbox.as_deref(), store.as_deref());
            assert_eq!(found, expected, "{base:?} {sandbox:?} {store:?}");
        }
        check("", "", "", Step::Nothing);
        check("a", "a", "a", Step::Nothing);
        check("", "", "a", Step::Lay);
        check("a", "a", "b", Step::Lay);
        check("a", "a", "", Step::Take);
        check("", "a", "", Step::Push);
        check("a", "b", "a", Step::Push);
        check("a", "", "a", Step::Drop);
        check("", "a", "a", Step::Agree);
        check("a", "b", "b", Step::Agree);
        check("a", "", "", Step::Agree);
        check("", "a", "b", Step::Yield);
        check("a", "b", "c", Step::Yield);
        check("a", "b", "", Step::Yield);
        check("a", "", "b", Step::Yield);
    }
}
