use super::*;

#[test]
fn as_many_wait_as_may_be_needed_next_and_no_more() {
    #[track_caller]
    fn check((starting, waiting, busy): (usize, usize, usize), lacking: usize, keeps: bool) {
        let counts = Counts {
            starting,
            waiting,
            busy,
        };
        assert_eq!((counts.lacking(), counts.keeps()), (lacking, keeps));
    }
    check((0, 0, 0), SPARE, true);
    check((1, 1, 0), 0, true);
    check((0, KEPT, 0), 0, false);
    // A burst finds twice as many each time, within bounds.
    check((0, 0, 2), 2, true);
    check((0, 0, 12), 12, true);
    check((4, 0, 12), 8, true);
    check((0, 0, 30), BURST, true);
    check((0, BURST, 30), 0, false);
    check((0, 0, CARRIERS - 3), 3, true);
    check((3, 0, CARRIERS - 3), 0, true);
    check((0, 0, CARRIERS), 0, true);
}
