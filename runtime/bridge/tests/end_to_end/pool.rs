//! Boxes that share the asks of a pool.

use std::collections::HashMap;

use tempfile::TempDir;

use crate::parts::{
    BOTH_VERSIONS, Bridge, Broker, Engine, Listener, assert_is_an_answer, eventually,
};

/// Two boxes, `one` and `two`, that share the asks of the pool `p`.
struct Pool {
    folders: [TempDir; 2],
    _engines: [Engine; 2],
    url: String,
    heard: Listener,
}

const POOL_ASKS: usize = 200;

impl Pool {
    fn at(broker: &Broker) -> Self {
        let folders = [TempDir::new().unwrap(), TempDir::new().unwrap()];
        Self {
            _engines: [0, 1].map(|n| Engine::start(folders[n].path())),
            folders,
            url: format!("mqtt://127.0.0.1:{}", broker.port),
            heard: broker.listen(&["cloister/pool/p/answer/+", "cloister/+/status"]),
        }
    }

    fn start(&self, n: usize) -> Bridge {
        Bridge::start_at(&self.url, self.folders[n].path(), "5", |command| {
            command.args(["--node", ["one", "two"][n], "--pools", "p"]);
        })
    }

    fn start_both(&self) -> [Bridge; 2] {
        [0, 1].map(|n| {
            let bridge = self.start(n);
            let status = format!("cloister/{}/status", ["one", "two"][n]);
            while self.heard.next_on(&status).payload != "online" {}
            bridge
        })
    }

    fn ask(&self, broker: &Broker) {
        let asks: String = (0..POOL_ASKS)
            .map(|n| format!("{{\"id\":\"{n}\",\"prompt\":\"Hello\",\"max_tokens\":2}}\n"))
            .collect();
        broker.publish_lines("cloister/pool/p/ask", &asks);
    }

    /// The next answer, held against those that came before; false if it is a repeat.
    fn hear(&self, answered: &mut HashMap<String, String>) -> bool {
        let answer = loop {
            let heard = self.heard.next();
            if !heard.topic.ends_with("/status") {
                break heard;
            }
        };
        assert_is_an_answer(&answer.json());
        let earlier = answered.insert(answer.topic, answer.payload.clone());
        if let Some(earlier) = &earlier {
            assert_eq!(*earlier, answer.payload, "answered twice, differently");
        }
        earlier.is_none()
    }
}

#[test]
fn two_boxes_in_a_pool_have_at_least_two_fifths_of_the_work_each_and_do_none_twice() {
    let broker = Broker::start();
    let pool = Pool::at(&broker);
    let mut bridges = pool.start_both();
    pool.ask(&broker);
    let mut answered = HashMap::new();
    while answered.len() < POOL_ASKS {
        assert!(pool.hear(&mut answered), "an answer came twice");
    }
    let counts = ["one", "two"].map(|name| {
        let states = broker.listen(&[&format!("cloister/{name}/state")]);
        eventually("the state shows all answers", || {
            let asks = states.next().json()["asks"].clone();
            let left = asks["waiting"].as_u64()? + asks["running"].as_u64()?;
            (left == 0).then(|| asks["answered"].as_u64())?
        })
    });
    println!("answered by each: {counts:?}");
    assert_eq!(counts[0] + counts[1], POOL_ASKS as u64);
    assert!(counts.iter().all(|count| *count >= 80), "{counts:?}");
    for bridge in &mut bridges {
        bridge.stop();
    }
}

#[test]
fn two_boxes_share_a_pools_asks_and_one_that_is_killed_half_way_loses_none() {
    let broker = Broker::start();
    let pool = Pool::at(&broker);
    let mut bridges = pool.start_both();
    pool.ask(&broker);
    let mut answered = HashMap::new();
    let mut killed = false;
    while answered.len() < POOL_ASKS {
        if answered.len() == POOL_ASKS / 2 && !killed {
            killed = true;
            bridges[1].process.kill();
            bridges[1] = pool.start(1);
        }
        pool.hear(&mut answered);
    }
    for bridge in &mut bridges {
        bridge.stop();
    }
}

#[test]
fn a_box_that_has_left_a_pool_answers_what_it_had_been_given_and_is_given_no_more() {
    for version in BOTH_VERSIONS {
        let broker = Broker::start();
        let folder = TempDir::new().unwrap();
        let url = format!("mqtt://127.0.0.1:{}", broker.port);
        let heard = broker.listen(&["cloister/pool/p/answer/+", "cloister/n/status"]);
        let mut bridge = Bridge::start_at(&url, folder.path(), version, |command| {
            command.args(["--pools", "p"]);
        });
        heard.wait_online();
        bridge.stop();
        // The broker keeps the session of who will come back, and what comes for it.
        broker.publish("cloister/pool/p/ask", r#"{"id":"given"}"#);
        let mut bridge = Bridge::start_at(&url, folder.path(), version, |_| {});
        heard.next_on("cloister/pool/p/answer/given");

        // The only box in the pool is this one now.
        let other = broker.listen(&["$share/p/cloister/pool/p/ask"]);
        eventually("the session is without the pool", || {
            broker.publish("cloister/pool/p/ask", r#"{"id":"when"}"#);
            broker.publish("cloister/pool/p/ask", r#"{"id":"when"}"#);
            let mut came = 0;
            while other
                .next_within(std::time::Duration::from_millis(500))
                .is_some()
            {
                came += 1;
            }
            (came == 2).then_some(())
        });
        bridge.stop();
    }
}
