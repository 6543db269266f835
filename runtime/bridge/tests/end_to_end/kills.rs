//! Every part is killed while asks are on their way.

use crate::parts::BOTH_VERSIONS;
use crate::survive::survive;

#[test]
fn every_ask_has_its_one_answer_whatever_is_killed() {
    for version in BOTH_VERSIONS {
        survive(version, 60, 4, 200..1500);
    }
}
