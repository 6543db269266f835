//! What models are told: a text, and prompts.

/// English, and some code.
pub const TEXT: &str = concat!(
    include_str!("../../../../README.md"),
    include_str!("../../../../ARCHITECTURE.md"),
    include_str!("../../../../docs/privacy.md"),
    include_str!("../../src/queue.rs"),
);

const SUBJECTS: [&str; 20] = [
    "rain",
    "a sonnet",
    "the number seven",
    "bread",
    "Rust",
    "Paris",
    "a bicycle",
    "the moon",
    "chess",
    "tea",
    "an octopus",
    "the heart",
    "a loom",
    "glass",
    "the Nile",
    "winter",
    "a bridge",
    "salt",
    "a violin",
    "TCP",
];

/// What is asked about each of them: 200 prompts.
pub fn prompts() -> impl Iterator<Item = String> {
    SUBJECTS.iter().flat_map(|subject| {
        [
            format!("What is {subject}?"),
            format!("The history of {subject} begins"),
            format!("Once upon a time there was {subject}, and"),
            format!("Three facts about {subject}:\n1."),
            format!("Q: Why do people like {subject}?\nA:"),
            format!("# {subject}\n\n"),
            format!("def about():\n    \"\"\"Tells of {subject}.\"\"\"\n"),
            format!("{{\"subject\": \"{subject}\", \"words\": ["),
            format!("\"I have never thought about {subject},\" she said. \""),
            format!("En français, {subject} se dit"),
        ]
    })
}
