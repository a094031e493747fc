//! The platform files are mirrors: what they supply, they supply in the same order, and they supply nothing else. What it
//! has to be, the compiler checks: it is in traits.

/// What a source implements of a trait, in its order: functions, types and constants.
fn supplied<'a>(source: &'a str, implementation: &str) -> Vec<&'a str> {
    let body = source
        .lines()
        .skip_while(|line| *line != implementation)
        .skip(1)
        .take_while(|line| *line != "}");
    // Items stand one step in.
    let items = body.filter_map(|line| line.strip_prefix("    "));
    let items = items.filter(|line| !line.starts_with(' '));
    let items = items.filter_map(|line| {
        let line = line.strip_prefix("async ").unwrap_or(line);
        let words = ["fn ", "type ", "const "];
        let rest = words.iter().find_map(|word| line.strip_prefix(word))?;
        rest.split(|c: char| !c.is_alphanumeric() && c != '_')
            .next()
    });
    items.collect()
}

/// What a source lets the rest of the crate see, apart from modules: each of these is looked at by itself.
fn shown(source: &str) -> Vec<&str> {
    let items = source
        .lines()
        .filter_map(|line| line.strip_prefix("pub(crate) "));
    items.filter(|item| !item.starts_with("mod ")).collect()
}

/// Both platforms' sources of a trait, with the names that it has at least.
fn check(implementation: &str, sources: [&str; 2], least: &[&str]) {
    let [unix, windows] = sources.map(|source| supplied(source, implementation));
    assert_eq!(unix, windows, "{implementation}");
    for name in least {
        assert!(unix.contains(name), "{implementation}: {unix:?}");
    }
}

#[test]
fn the_platforms_say_the_same_in_the_same_order() {
    let sources = [
        include_str!("../../src/unix/system.rs"),
        include_str!("../../src/windows/system.rs"),
    ];
    check("impl System for Os {", sources, &["current_user", "now"]);
    assert_eq!(sources.map(shown), [["struct Os;"]; 2]);
}

#[test]
fn the_platforms_supply_the_same_in_the_same_order() {
    let sources = [
        include_str!("../../src/unix.rs"),
        include_str!("../../src/windows.rs"),
    ];
    check("impl Platform for Os {", sources, &["Stream", "bind"]);
    assert_eq!(sources.map(shown), [[""; 0]; 2]);
}

#[test]
fn the_platforms_supply_the_same_for_async_programs_in_the_same_order() {
    let sources = [
        include_str!("../../src/unix/tokio.rs"),
        include_str!("../../src/windows/tokio.rs"),
    ];
    check("impl Platform for Os {", sources, &["Stream", "connect"]);
    assert_eq!(sources.map(shown), [[""; 0]; 2]);
}

#[test]
fn what_is_supplied_is_found() {
    let source = "
impl Other for Os {
    fn not_this() {}
}

impl Platform for Os {
    const ONE: u32 = 1;
    type Two = Two;

    #[inline]
    fn three() {
        fn nor_this() {}
    }

    async fn four(
        name: &Name,
    ) {
    }
}

fn nor_this() {}
";
    let found = supplied(source, "impl Platform for Os {");
    assert_eq!(found, ["ONE", "Two", "three", "four"]);
    assert_eq!(
        shown("pub(crate) mod a;\npub(crate) fn f() {}\nfn g() {}"),
        ["fn f() {}"]
    );
}
