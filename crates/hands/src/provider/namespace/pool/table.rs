//! How many wait for whom, and what is to be done about it (pure).

use std::collections::VecDeque;
use std::time::Instant;

use super::Kind;

/// What waits, by environment.
pub(super) struct Table<M> {
    each: usize,
    most: usize,
    closed: bool,
    filling: bool,
    /// Whose sessions wanted one last comes last.
    environments: Vec<Environment<M>>,
}

/// What waits for the sessions of one environment.
struct Environment<M> {
    id: String,
    kind: Kind,
    /// The one that waits longest comes first.
    members: VecDeque<M>,
    wanted_at: Instant,
    /// The last start for it failed: none is tried before a session wants one again.
    failed: bool,
}

impl<M> Table<M> {
    /// Nothing yet; later `each` for one environment, and for `most` of them.
    pub(super) fn new(each: usize, most: usize) -> Self {
        Self {
            each,
            most,
            closed: false,
            filling: false,
            environments: Vec::new(),
        }
    }

    /// How many are to wait for an environment.
    pub(super) fn each(&self) -> usize {
        self.each
    }

    /// How many wait.
    pub(super) fn count(&self) -> usize {
        let members = self.environments.iter();
        members.map(|environment| environment.members.len()).sum()
    }

    /// A session of this environment wants one of this kind. Returns those that nobody can want any more: of the kind that
    /// the environment's were before (runtime EN-3), and of the environment that was not used for longest.
    #[must_use]
    pub(super) fn want(&mut self, id: &str, kind: &Kind, now: Instant) -> Vec<M> {
        if self.closed || self.each == 0 {
            return Vec::new();
        }
        let place = self.environments.iter().position(|known| known.id == id);
        let mut environment = match place {
            Some(place) => self.environments.remove(place),
            None => Environment {
                id: id.to_owned(),
                kind: kind.clone(),
                members: VecDeque::new(),
                wanted_at: now,
                failed: false,
            },
        };
        let mut useless = Vec::new();
        if environment.kind != *kind {
            environment.kind = kind.clone();
            useless.extend(environment.members.drain(..));
        }
        environment.wanted_at = now;
        environment.failed = false;
        self.environments.push(environment);
        if self.environments.len() > self.most {
            useless.extend(self.environments.remove(0).members);
        }
        useless
    }

    /// Takes one of this kind.
    pub(super) fn take(&mut self, id: &str, kind: &Kind) -> Option<M> {
        let environment = self.of(id, kind)?;
        environment.members.pop_front()
    }

    /// Begins to fill, when nobody does and something lacks.
    #[must_use]
    pub(super) fn begin(&mut self) -> bool {
        let begins = !self.filling && self.lacking().is_some();
        self.filling |= begins;
        begins
    }

    /// What whoever fills is to start next; filling ends when there is nothing.
    pub(super) fn next(&mut self) -> Option<(String, Kind)> {
        let next = self.lacking();
        self.filling = next.is_some();
        next
    }

    /// Whether somebody fills.
    pub(super) fn is_filling(&self) -> bool {
        self.filling
    }

    /// The environment that was used last of those that lack one.
    fn lacking(&self) -> Option<(String, Kind)> {
        let lacks = |environment: &&Environment<M>| {
            !environment.failed && environment.members.len() < self.each
        };
        let lacking = self.environments.iter().rev().find(lacks)?;
        Some((lacking.id.clone(), lacking.kind.clone()))
    }

    /// One was started; it comes back when it is no longer wanted.
    #[must_use]
    pub(super) fn put(&mut self, id: &str, kind: &Kind, member: M) -> Option<M> {
        let each = self.each;
        match self.of(id, kind) {
            Some(environment) if environment.members.len() < each => {
                environment.members.push_back(member);
                None
            }
            _ => Some(member),
        }
    }

    /// One could not be started.
    pub(super) fn fail(&mut self, id: &str, kind: &Kind) {
        if let Some(environment) = self.of(id, kind) {
            environment.failed = true;
        }
    }

    /// Gives up the environments whose sessions wanted none since then.
    #[must_use]
    pub(super) fn unwanted(&mut self, since: Instant) -> Vec<M> {
        let unwanted = self
            .environments
            .extract_if(.., |environment| environment.wanted_at < since);
        unwanted
            .flat_map(|environment| environment.members)
            .collect()
    }

    /// Gives up all, for good.
    #[must_use]
    pub(super) fn close(&mut self) -> Vec<M> {
        self.closed = true;
        let all = self.environments.drain(..);
        all.flat_map(|environment| environment.members).collect()
    }

    fn of(&mut self, id: &str, kind: &Kind) -> Option<&mut Environment<M>> {
        let mut environments = self.environments.iter_mut();
        environments.find(|known| known.id == id && known.kind == *kind)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::provider::Limits;
    use manyhands_protocol::environment::Packages;

    fn kind(package: &str) -> Kind {
        Kind {
            limits: Limits::default(),
            packages: Packages {
                pip: vec![package.to_owned()],
                ..Packages::default()
            },
        }
    }

    /// Starts what lacks, each named by its environment and a number.
    fn fill(table: &mut Table<String>, number: &mut u32) -> Vec<String> {
        let mut started = Vec::new();
        if !table.begin() {
            return started;
        }
        while let Some((id, kind)) = table.next() {
            *number += 1;
            let member = format!("{id}{number}");
            assert_eq!(table.put(&id, &kind, member.clone()), None);
            started.push(member);
        }
        assert!(!table.is_filling());
        started
    }

    #[test]
    fn sbx_8_each_is_taken_once_and_replaced() {
        let (mut table, mut number, now) = (Table::new(2, 3), 0, Instant::now());
        let one = kind("one");
        assert_eq!(
            fill(&mut table, &mut number),
            [""; 0],
            "nobody wants any yet"
        );
        assert_eq!(table.want("a", &one, now), [""; 0]);
        assert_eq!(table.take("a", &one), None);
        assert_eq!(fill(&mut table, &mut number), ["a1", "a2"]);
        assert_eq!(
            table.take("b", &one),
            None,
            "of another environment, of the same kind"
        );
        assert_eq!(table.take("a", &one).as_deref(), Some("a1"));
        assert_eq!(fill(&mut table, &mut number), ["a3"]);
        let taken = [(); 3].map(|()| table.take("a", &one));
        assert_eq!(taken, [Some("a2".to_owned()), Some("a3".to_owned()), None]);
    }

    /// runtime EN-3: an environment that has changed drops what waited for its sessions.
    #[test]
    fn en_3_what_waited_for_an_environment_as_it_was_is_dropped() {
        let (mut table, mut number, now) = (Table::new(1, 3), 0, Instant::now());
        let (before, after) = (kind("before"), kind("after"));
        assert_eq!(table.want("a", &before, now), [""; 0]);
        assert_eq!(fill(&mut table, &mut number), ["a1"]);
        // One that is being started meanwhile is of no use either.
        assert_eq!(table.want("a", &after, now), ["a1"]);
        assert_eq!(
            table.put("a", &before, "late".to_owned()).as_deref(),
            Some("late")
        );
        assert_eq!(table.take("a", &before), None);
        assert_eq!(fill(&mut table, &mut number), ["a2"]);
        assert_eq!(table.take("a", &before), None);
        assert_eq!(table.take("a", &after).as_deref(), Some("a2"));
    }

    #[test]
    fn sbx_8_what_nobody_wants_is_given_up() {
        let (mut table, mut number, now) = (Table::new(1, 2), 0, Instant::now());
        let one = kind("one");
        let later = |seconds| now + Duration::from_secs(seconds);
        for (id, at) in [("a", 0), ("b", 10), ("a", 20)] {
            assert_eq!(table.want(id, &one, later(at)), [""; 0]);
        }
        assert_eq!(fill(&mut table, &mut number), ["a1", "b2"]);
        // A third environment: the one that was not used for longest has to go.
        assert_eq!(table.want("c", &one, later(30)), ["b2"]);
        assert_eq!(fill(&mut table, &mut number), ["c3"]);
        assert_eq!(table.unwanted(later(20)), [""; 0]);
        assert_eq!(table.unwanted(later(25)), ["a1"]);
        assert_eq!(table.count(), 1);
        assert_eq!(table.close(), ["c3"]);
        // Whatever comes later comes back, and nothing is begun.
        assert_eq!(table.want("c", &one, later(40)), [""; 0]);
        assert!(!table.begin());
        assert_eq!(
            table.put("c", &one, "late".to_owned()).as_deref(),
            Some("late")
        );
        assert_eq!(table.count(), 0);
    }

    #[test]
    fn a_failed_start_is_not_tried_again_before_a_session_wants_one() {
        let (mut table, now) = (Table::<String>::new(2, 2), Instant::now());
        let (one, two) = (kind("one"), kind("two"));
        assert_eq!(table.want("a", &one, now), [""; 0]);
        assert_eq!(table.want("b", &two, now), [""; 0]);
        assert!(table.begin());
        assert!(!table.begin(), "somebody fills");
        assert_eq!(table.next(), Some(("b".to_owned(), two.clone())));
        table.fail("b", &two);
        assert_eq!(table.next(), Some(("a".to_owned(), one.clone())));
        table.fail("a", &one);
        assert_eq!(table.next(), None);
        assert!(!table.begin());
        assert_eq!(table.want("a", &one, now), [""; 0]);
        assert!(table.begin());
        // Off: nothing ever lacks.
        let mut off = Table::<String>::new(0, 2);
        assert_eq!(off.want("a", &one, now), [""; 0]);
        assert!(!off.begin());
    }
}
