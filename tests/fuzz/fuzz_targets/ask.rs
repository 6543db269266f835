//! The payload of an MQTT message on `ask`, as `cloister-bridge` reads it: JSON or text, whichever its Content Type
//! says, its id and its `reply_to` among it.

#![no_main]
#![allow(dead_code, missing_docs)] // for the bridge, which uses the rest

#[path = "../../../runtime/bridge/src"]
mod bridge {
    pub mod answer;
    pub mod ask;
    pub mod topics;
}
use bridge::{answer, ask, topics};

/// In the place of the module that keeps what is set: no ask is read by it.
mod choices {
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Setting {
        Model,
        Think,
    }
}

use std::sync::LazyLock;

use ask::Form;
use cloister_program::node::Node;
use topics::Topics;

static TOPICS: LazyLock<Topics> = LazyLock::new(|| {
    let name = |name| Node::parse(name).expect("it is a name");
    Topics::of(&name("n"), &[name("p")])
});

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    for form in [Form::Either, Form::Json, Form::Text] {
        match ask::parse(bytes, form, &TOPICS) {
            // What is written down, and what is said where, must be possible.
            Ok(ask) => {
                assert!(ask.request["messages"].is_array());
                assert!(
                    ask.reply_to
                        .is_none_or(|topic| TOPICS.check_reply_to(&topic).is_ok())
                );
            }
            Err(refused) => {
                let _ = refused.error.payload(refused.id.as_ref());
            }
        }
    }
});
