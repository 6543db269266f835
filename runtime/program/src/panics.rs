//! What is said when the program has a fault of its own.
//!
//! In: a panic. Out: one line that says where in the source it was.
//! Must never say what the panic says: the library's own words for a text that is cut in the wrong place, or for an
//! unexpected value, hold that text, which may be somebody's prompt.

/// From now on panics are told by their place alone, by `program`.
pub fn tell_only_where(program: &'static str) {
    std::panic::set_hook(Box::new(move |panic| {
        let place = panic.location().map_or_else(
            || "an unknown place".to_owned(),
            |place| format!("{}:{}", place.file(), place.line()),
        );
        eprintln!(
            "{program}: a fault of its own at {place}; what it was about is not shown, as it may hold what somebody wrote"
        );
    }));
}
