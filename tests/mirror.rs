//! The platform files are mirrors: the same items in the same order.

/// What `src/lib.rs` lists in the comment above the selection of the platform, below a line that says for where.
fn listed(below: &str) -> Vec<String> {
    include_str!("../src/lib.rs")
        .lines()
        .skip_while(|line| !line.contains(below))
        .skip(2)
        .map_while(|line| line.strip_prefix("//   "))
        .map(|item| {
            item.chars()
                .take_while(|c| c.is_alphanumeric() || *c == '_')
                .collect()
        })
        .collect()
}

/// The names of the `pub(crate)` items of a source file, in their order.
fn supplied(source: &str) -> Vec<String> {
    let mut items = Vec::new();
    for line in source.lines() {
        // Items of the file itself stand at the start of a line; methods and the tests do not.
        let Some(item) = line.strip_prefix("pub(crate) ") else {
            continue;
        };
        let words = ["const ", "async ", "unsafe "];
        let item = words
            .iter()
            .fold(item, |item, word| item.strip_prefix(word).unwrap_or(item));
        let (kind, rest) = item.split_once(' ').expect("an item has a kind and a name");
        match kind {
            "fn" | "struct" | "enum" | "trait" | "type" | "static" => {
                let name = rest
                    .chars()
                    .take_while(|c| c.is_alphanumeric() || *c == '_');
                items.push(name.collect());
            }
            "use" => {
                let path = rest.trim_end_matches(';');
                let (_, names) = path.rsplit_once("::").unwrap_or(("", path));
                let (_, names) = path.split_once('{').unwrap_or(("", names));
                items.extend(
                    names
                        .split([',', '}'])
                        .map(|name| name.rsplit(" as ").next().unwrap_or_default().trim())
                        .filter(|name| !name.is_empty())
                        .map(str::to_owned),
                );
            }
            // What is in a module is looked at by itself.
            "mod" => {}
            other => panic!("what is a pub(crate) {other}? {line}"),
        }
    }
    items
}

#[test]
fn the_platforms_supply_what_is_listed_in_the_same_order() {
    let listed = listed("in `src/NAME.rs`, in this order");
    assert_eq!(listed.len(), 4, "the list is not where it was: {listed:?}");
    assert_eq!(
        supplied(include_str!("../src/unix.rs")),
        listed,
        "src/unix.rs"
    );
    assert_eq!(
        supplied(include_str!("../src/windows.rs")),
        listed,
        "src/windows.rs"
    );
}

#[test]
fn the_platforms_supply_what_is_listed_for_async_programs_in_the_same_order() {
    let listed = listed("in `src/NAME/tokio.rs`, with feature `tokio`, in this order");
    assert_eq!(listed.len(), 4, "the list is not where it was: {listed:?}");
    assert_eq!(
        supplied(include_str!("../src/unix/tokio.rs")),
        listed,
        "src/unix/tokio.rs"
    );
    assert_eq!(
        supplied(include_str!("../src/windows/tokio.rs")),
        listed,
        "src/windows/tokio.rs"
    );
}

#[test]
fn the_items_of_a_source_are_found() {
    let source = "
pub(crate) fn one() {}
fn not_this() {}
pub(super) fn nor_this() {}
pub(crate) use two::Two;
pub(crate) use some::{Three, other::Name as Four};
    pub(crate) fn nor_this_method() {}
pub(crate) struct Five;
";
    assert_eq!(supplied(source), ["one", "Two", "Three", "Four", "Five"]);
}
