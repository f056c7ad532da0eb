//! Compares the imports of the sources with the list of modules in `src/lib.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// The largest number of lines of a source file.
const MAX_LINES: usize = 400;

/// The modules in the order of the list in `src/lib.rs`. A module may use the modules before it.
fn order(lib: &str) -> Vec<String> {
    let entries = lib.lines().filter(|line| line.starts_with("// - "));
    entries.flat_map(|line| line.split('`').skip(1).step_by(2)).map(str::to_owned).collect()
}

/// Every file below `src`, by its relative path.
fn sources() -> BTreeMap<String, String> {
    fn walk(dir: &Path, root: &Path, found: &mut BTreeMap<String, String>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, root, found);
            } else {
                let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
                found.insert(name, fs::read_to_string(&path).unwrap());
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = BTreeMap::new();
    walk(&root, &root, &mut found);
    found
}

/// The tokens of a source, without comments. A string literal is one token that begins with a quote. Supports only the part of Rust
/// that the sources use.
fn tokens(source: &str) -> Vec<&str> {
    let mut tokens = Vec::new();
    let mut rest = source;
    while let Some(first) = rest.chars().next() {
        let is_word = |c: char| c.is_alphanumeric() || c == '_';
        let raw_quote = rest.trim_start_matches('b').strip_prefix('r').map(|rest| rest.trim_start_matches('#'));
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if raw_quote.is_some_and(|quote| quote.starts_with('"')) {
            let hashes = rest.bytes().skip_while(|byte| *byte != b'#').take_while(|byte| *byte == b'#').count();
            let opening = rest.find('"').unwrap() + 1;
            let hashes = if rest[..opening].contains('#') { hashes } else { 0 };
            let closing = format!("\"{}", "#".repeat(hashes));
            opening + rest[opening..].find(&closing).unwrap() + closing.len()
        } else if first == '"' {
            let mut chars = rest.char_indices().skip(1);
            loop {
                match chars.next() {
                    Some((_, '\\')) => drop(chars.next()),
                    Some((at, '"')) => break at + 1,
                    Some(_) => {}
                    None => break rest.len(),
                }
            }
        } else if let Some(character) = rest.strip_prefix('\'') {
            // A character literal or a lifetime.
            let escaped = usize::from(character.starts_with('\\'));
            let end = character[escaped..].char_indices().nth(1).map(|(at, _)| at + escaped);
            match end.and_then(|at| character[at..].find('\'').map(|more| at + more)) {
                Some(at) if escaped == 1 || character[..at].chars().count() == 1 => at + 2,
                _ => 1,
            }
        } else if is_word(first) {
            rest.find(|c| !is_word(c)).unwrap_or(rest.len())
        } else if rest.starts_with("::") {
            2
        } else {
            first.len_utf8()
        };
        let token = &rest[..length];
        if !token.starts_with("//") && !token.starts_with("/*") && !token.trim().is_empty() {
            tokens.push(token);
        }
        rest = &rest[length..];
    }
    tokens
}

/// The segments that follow the path that ends before `at`: the next one, or the first one of each item in braces.
fn next_segments<'a>(tokens: &[&'a str], at: usize) -> Vec<&'a str> {
    if tokens.get(at) != Some(&"{") {
        return tokens.get(at).copied().into_iter().collect();
    }
    let (mut next_segments, mut depth, mut is_head) = (Vec::new(), 0, true);
    for token in &tokens[at..] {
        match *token {
            "{" => depth += 1,
            "}" => depth -= 1,
            "," if depth == 1 => is_head = true,
            word if depth == 1 && is_head => {
                next_segments.push(word);
                is_head = false;
            }
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    next_segments
}

/// The modules of the library that a file uses: by `crate::`, by the name of the package, or by `super::`.
fn uses<'a>(file: &str, tokens: &[&'a str]) -> Vec<&'a str> {
    // The number of `super` from a file to the root: 1 for `a.rs`, 2 for `a/b.rs`.
    let depth = file.trim_end_matches(".rs").split('/').count();
    let mut found = Vec::new();
    // For each open brace: whether it opens an inline module, which needs one more `super`.
    let mut braces = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        let continues = at > 0 && tokens[at - 1] == "::";
        if *token == "{" {
            braces.push(at > 1 && tokens[at - 2] == "mod");
        } else if *token == "}" {
            braces.pop();
        } else if !continues && ["crate", "subjobs"].contains(token) && tokens.get(at + 1) == Some(&"::") {
            found.extend(next_segments(tokens, at + 2));
        } else if !continues && *token == "super" {
            let steps = tokens[at..].chunks(2).take_while(|step| step[0] == "super").count();
            let within = braces.iter().filter(|is_module| **is_module).count();
            if steps >= depth + within {
                found.extend(next_segments(tokens, at + 2 * steps));
            }
        }
    }
    found
}

/// The tokens without the tests at the end of the file.
fn without_tests<'a, 'b>(tokens: &'b [&'a str]) -> &'b [&'a str] {
    let tests = tokens.windows(6).position(|window| window == ["#", "[", "cfg", "(", "test", ")"]);
    &tokens[..tests.unwrap_or(tokens.len())]
}

/// The violations in one file.
fn violations(order: &[String], file: &str, source: &str) -> Vec<String> {
    let tokens = tokens(source);
    let module = file.trim_end_matches(".rs").split('/').next().unwrap_or_default();
    let mut violations = Vec::new();
    let mut complain = |what: String| violations.push(format!("{file}: {what}"));

    // The root and the program may use everything.
    if !["lib", "main"].contains(&module) {
        match order.iter().position(|name| name == module) {
            None => complain("the module is not in the list of src/lib.rs".to_owned()),
            Some(own) => {
                for used in uses(file, &tokens) {
                    match order.iter().position(|name| name == used) {
                        Some(at) if at <= own => {}
                        Some(_) => complain(format!("uses {used}, which is below {module}")),
                        None => complain(format!("uses {used}, which is no module in the list")),
                    }
                }
            }
        }
    }
    if ["domain", "store"].contains(&module) {
        for word in ["http", "axum", "hyper", "tower", "StatusCode"] {
            if tokens.contains(&word) {
                complain(format!("{module} knows no HTTP, and here is {word}"));
            }
        }
    }
    let is_tests = file.ends_with("/tests.rs");
    let production = without_tests(&tokens);
    if file != "web/error.rs" && !is_tests && production.iter().any(|token| token.contains("WKS.")) {
        complain("error codes stand in web/error.rs only".to_owned());
    }
    // The access file can name a variable that has the secret of an access key.
    let may_read =
        ["config/flags.rs", "config/flags/tls.rs", "config/flags/traces.rs", "config/environment.rs", "access/file.rs"];
    if !may_read.contains(&file) && !is_tests {
        let of_std = |window: &[&str]| window == ["std", "::", "env"] || (window[0] == "env" && window[1] == "::");
        let in_group = || {
            tokens.iter().enumerate().any(|(at, token)| {
                *token == "std" && tokens.get(at + 1) == Some(&"::") && next_segments(&tokens, at + 2).contains(&"env")
            })
        };
        if production.windows(3).any(of_std) || in_group() {
            complain("only config/ reads the environment".to_owned());
        }
        // Of clap: `#[arg(env = …)]`.
        if production.windows(2).any(|window| window == ["env", "="]) {
            complain("only config/flags.rs and config/flags/ have flags that read the environment".to_owned());
        }
    }
    let lines = source.lines().count();
    if lines > MAX_LINES {
        complain(format!("has {lines} lines, and {MAX_LINES} are the most"));
    }
    violations
}

#[test]
fn modules_use_only_modules_above_them_in_the_list() {
    let sources = sources();
    let order = order(&sources["lib.rs"]);
    let modules = sources.keys().filter(|file| !file.contains('/') && !["lib.rs", "main.rs"].contains(&file.as_str()));
    let mut modules: Vec<_> = modules.map(|file| file.trim_end_matches(".rs")).collect();
    let mut listed: Vec<_> = order.iter().map(String::as_str).collect();
    modules.sort_unstable();
    listed.sort_unstable();
    assert_eq!(listed, modules, "the list of src/lib.rs is that of its modules");
    // The first and the last modules are fixed.
    assert_eq!(order[0], "domain");

    let wrong: Vec<_> = sources.iter().flat_map(|(file, source)| violations(&order, file, source)).collect();
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));

    let uses = |file: &str| uses(file, &tokens(&sources[file])).concat();
    assert!(uses("server.rs").contains("api") && uses("web/error.rs").contains("access"), "hardly anything is seen");
}

/// For each module of a directory, the modules of the directory that it uses outside of its tests. Another name is an item of the
/// parent module, which uses all of them.
fn uses_within<'a>(dir: &str, sources: &'a BTreeMap<String, String>) -> BTreeMap<&'a str, BTreeSet<&'a str>> {
    let mut found = BTreeMap::<_, BTreeSet<_>>::new();
    for (file, source) in sources {
        let Some(below) = file.strip_prefix(dir).and_then(|rest| rest.strip_prefix('/')) else { continue };
        let path: Vec<_> = below.trim_end_matches(".rs").split('/').collect();
        let used = found.entry(path[0]).or_default();
        if ["tests", "conformance", "simulation"].contains(&path[path.len() - 1]) {
            continue;
        }
        let tokens = tokens(source);
        let production = without_tests(&tokens);
        let supers = path.iter().flat_map(|_| ["super", "::"]).collect::<Vec<_>>();
        let from_root =
            ["crate", "::"].into_iter().chain(dir.split('/').flat_map(|part| [part, "::"])).collect::<Vec<_>>();
        for prefix in [&supers, &from_root] {
            for at in 0..production.len() {
                if (at == 0 || production[at - 1] != "::") && production[at..].starts_with(prefix) {
                    used.extend(next_segments(production, at + prefix.len()));
                }
            }
        }
        used.remove(path[0]);
    }
    found
}

/// Repeatedly removes the modules that use no other module. The rest are modules in an import cycle, and their users.
fn cycles<'a>(mut uses: BTreeMap<&'a str, BTreeSet<&'a str>>) -> BTreeMap<&'a str, BTreeSet<&'a str>> {
    while let Some(free) = uses.iter().find_map(|(module, used)| used.is_empty().then_some(*module)) {
        uses.remove(free);
        for used in uses.values_mut() {
            used.remove(free);
        }
    }
    uses
}

#[test]
fn modules_of_the_store_have_no_import_cycle() {
    let sources = sources();
    for dir in ["store", "store/core", "store/log", "store/memory", "store/data_dir", "store/postgres"] {
        let mut uses = uses_within(dir, &sources);
        if ["store", "store/postgres"].contains(&dir) {
            // Files that add methods to the type in `store.rs`.
            let modules: Vec<_> = uses.keys().copied().collect();
            uses.values_mut().for_each(|used| used.retain(|name| modules.contains(name)));
        }
        assert!(uses.values().any(|used| !used.is_empty()), "{dir}: hardly anything is seen");
        assert_eq!(cycles(uses), BTreeMap::new(), "{dir}");
    }
    let with = |file: &str, source: &str| {
        let added = [(file.to_owned(), source.to_owned())];
        cycles(uses_within("store/log", &sources.clone().into_iter().chain(added).collect())).len()
    };
    assert_eq!(with("store/log/files.rs", "use super::frame::Link;"), 8, "files, and all that use it");
    assert_eq!(with("store/log/files.rs", "use super::LogError;"), 8, "an item of the parent");
    assert_eq!(with("store/log/extra.rs", "use crate::store::log::files::Directory;"), 0);
    assert_eq!(with("store/log/files.rs", "#[cfg(test)]\nmod tests { use super::*; }"), 0);
}

#[test]
fn only_the_program_uses_the_server() {
    for (file, source) in sources() {
        let module = file.trim_end_matches(".rs").split('/').next().unwrap_or_default();
        if !["server", "main", "lib"].contains(&module) {
            assert!(!uses(&file, &tokens(&source)).contains(&"server"), "{file} uses server");
        }
    }
}

#[test]
fn violations_are_detected() {
    let order: Vec<_> = ["domain", "store", "access", "config", "web", "server"].map(str::to_owned).into();
    let long = "\n".repeat(MAX_LINES + 1);
    for (file, source, complaint) in [
        ("store.rs", "use crate::web::error::Error;", "uses web"),
        ("domain/ids.rs", "use crate::store::Store;", "uses store"),
        ("store.rs", "use crate::{\n    domain::{JobId, Status},\n    web,\n};", "uses web"),
        ("store.rs", "use crate::{domain::{web, access}, server as s};", "uses server"),
        ("store.rs", "fn f() -> crate::server::Server {}", "uses server"),
        ("store.rs", "type A = super::web::A;", "uses web"),
        ("store/memory.rs", "use super::super::{domain, access::Token};", "uses access"),
        ("store/memory/tally.rs", "pub(in super::super::super::server) fn f() {}", "uses server"),
        ("access.rs", "use subjobs::server::Server;", "uses server"),
        ("access/policy.rs", "#[cfg(test)]\nmod tests { use crate::web::route; }", "uses web"),
        ("store.rs", "#[cfg(test)]\nmod tests { use super::*; use super::super::web; }", "uses web"),
        ("store.rs", "mod a { fn f() {} }\nuse super::web;", "uses web"),
        ("store.rs", "use super::*;", "uses *"),
        ("web.rs", "use crate::Everything;", "uses Everything"),
        ("extra.rs", "", "not in the list"),
        ("store/sql.rs", "fn f(status: http::StatusCode) {}", "knows no HTTP"),
        ("domain.rs", "use axum::Json;", "knows no HTTP"),
        ("web/admit.rs", r#"const A: &str = "WKS.00211102";"#, "error codes"),
        ("web/admit.rs", "const A: &str = r#\"a \"WKS.1\"\"#;", "error codes"),
        ("config.rs", r#"let a = std::env::var("A");"#, "reads the environment"),
        ("config.rs", "use std::{env, fs};", "reads the environment"),
        ("web/a.rs", "use std::env;", "reads the environment"),
        ("server.rs", "let a = env::var_os(A);", "reads the environment"),
        ("config.rs", r#"#[arg(long, env = "A")] a: u8,"#, "flags that read the environment"),
        ("web/long.rs", &long, "401 lines"),
    ] {
        let found = violations(&order, file, source).concat();
        assert!(found.contains(complaint), "{file}: {source:?}: {found:?} does not say {complaint:?}");
    }
    for (file, source) in [
        ("web.rs", "use crate::{access, config, domain::Status, store, web};"),
        ("store/memory.rs", "use super::{Outcome, server}; // its own"),
        ("store.rs", "#[cfg(test)]\nmod tests { use super::*; fn f() { super::web(); } }"),
        ("store.rs", "//! [`crate::server`] and std::env and http\n/* crate::web */ use crate::domain;"),
        ("store.rs", r#"const A: &str = "use crate::web; // \" std::env"; const B: char = '"'; type C<'a> = &'a str;"#),
        ("store.rs", r##"const A: &str = r#"crate::web" http"#;"##),
        ("server.rs", r#"let version = env!("CARGO_PKG_VERSION");"#),
        ("access/tests.rs", r#"let a = "WKS.1";"#),
        ("config/flags.rs", r#"use std::env; #[arg(env = "A")] a: u8,"#),
        ("main.rs", "use subjobs::server::Server;"),
    ] {
        let found = violations(&order, file, source);
        assert!(found.is_empty(), "{source:?}: {found:?}");
    }
}
