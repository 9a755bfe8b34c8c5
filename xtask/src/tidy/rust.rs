//! What the rules want to know of a Rust file, taken from its tokens.
//!
//! Tokens, not a syntax tree: what stands inside a macro call or a `macro_rules!` body is code like
//! any other, and a parser of items does not look there. Comments and strings are no tokens of
//! their own, so that a word in them is not taken for code.

use std::collections::BTreeSet;
use std::str::FromStr as _;

use proc_macro2::{Delimiter, Group, Ident, TokenStream, TokenTree};

use super::Finding;
use super::tree::File;

/// Begins the line of a test's documentation that names the planted bugs it catches.
const CATCHES: &str = "Catches:";

/// A function, free or not, wherever it stands.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Function {
    pub(super) name: String,
    /// The line of `fn`.
    pub(super) line: usize,
    /// From the line of `fn` to that of the closing brace, both counted.
    pub(super) lines: usize,
    /// Carries `#[test]`, or the attribute of a runtime that ends in `::test`.
    pub(super) is_test: bool,
    /// Carries `#[ignore]`.
    pub(super) is_ignored: bool,
    /// Calls a function `model` and gives it a closure or one name.
    pub(super) calls_model: bool,
    /// What stands in its documentation after `Catches:`, word by word.
    pub(super) catches: Vec<String>,
}

/// The facts of one file.
#[derive(Debug, Default)]
pub(super) struct Rust {
    pub(super) functions: Vec<Function>,
    /// The words given to macros of this file that make tests of names they are given.
    pub(super) made_tests: Vec<String>,
    /// The lines on which `unsafe` is said, as a keyword or in an attribute.
    pub(super) unsafe_lines: Vec<usize>,
    /// The bugs that `planted!` asks for, as line and name.
    pub(super) planted: Vec<(usize, String)>,
    /// The strings in the code, but for those names.
    pub(super) strings: BTreeSet<String>,
    /// The lines of `Catches:` that document no function.
    pub(super) stray_catches: Vec<usize>,
    /// Calls of macros that stand for code that is not there, as line and name.
    unfinished: Vec<(usize, String)>,
    /// The names of those macros.
    test_makers: Vec<String>,
}

impl Rust {
    /// Reads the tokens of `text`, or says why they are none.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let tokens = TokenStream::from_str(text).map_err(|error| error.to_string())?;
        let mut rust = Self::default();
        rust.walk(tokens);
        Ok(rust)
    }

    fn walk(&mut self, tokens: TokenStream) {
        let tokens: Vec<_> = tokens.into_iter().collect();
        let mut marks = Marks::default();
        for (index, token) in tokens.iter().enumerate() {
            let rest = tokens.get(index + 1..).unwrap_or_default();
            match token {
                TokenTree::Ident(ident) if ident == "fn" => {
                    let line = ident.span().start().line;
                    match function(line, rest, &marks) {
                        Some(function) => self.functions.push(function),
                        None => self.stray(&marks),
                    }
                    marks = Marks::default();
                }
                TokenTree::Ident(ident) => self.word(ident, rest),
                TokenTree::Literal(literal) => {
                    self.strings.extend(string(&literal.to_string()));
                }
                TokenTree::Punct(punct) if punct.as_char() == '#' => marks.read(rest),
                TokenTree::Punct(punct) if punct.as_char() == ';' => {
                    self.stray(&marks);
                    marks = Marks::default();
                }
                TokenTree::Punct(_) => {}
                TokenTree::Group(group) => {
                    if group.delimiter() == Delimiter::Brace {
                        self.stray(&marks);
                        marks = Marks::default();
                    }
                    if !is_planted_name(&tokens[..index]) {
                        self.walk(group.stream());
                    }
                }
            }
        }
        self.stray(&marks);
    }

    /// A word of the code that is not `fn`, with what stands after it.
    fn word(&mut self, ident: &Ident, rest: &[TokenTree]) {
        let line = ident.span().start().line;
        if ident == "unsafe" {
            self.unsafe_lines.push(line);
        } else if ident == "macro_rules" {
            self.test_makers.extend(test_maker(rest));
        } else if self.test_makers.iter().any(|maker| ident == maker) {
            self.made_tests.extend(words_of_call(rest));
        } else if is_unfinished(ident, rest) {
            self.unfinished.push((line, ident.to_string()));
        } else if ident == "planted" {
            self.planted
                .extend(planted_name(rest).map(|name| (line, name)));
        }
    }

    /// Marks that belong to no function.
    fn stray(&mut self, marks: &Marks) {
        self.stray_catches.extend(marks.catches_at);
    }
}

/// What the attributes before an item say of it.
#[derive(Debug, Default)]
struct Marks {
    test: bool,
    ignore: bool,
    catches: Vec<String>,
    /// The line of the first `Catches:`.
    catches_at: Option<usize>,
}

impl Marks {
    /// Reads the attribute whose `#` was just passed.
    fn read(&mut self, rest: &[TokenTree]) {
        let Some(TokenTree::Group(group)) = rest.first() else {
            return;
        };
        match last_of_path(group).as_deref() {
            Some("test") => self.test = true,
            Some("ignore") => self.ignore = true,
            Some("doc") => self.read_documentation(group),
            _ => {}
        }
    }

    /// Reads one line of documentation, which is the attribute `#[doc = "line"]`.
    fn read_documentation(&mut self, attribute: &Group) {
        for token in attribute.stream() {
            let TokenTree::Literal(literal) = token else {
                continue;
            };
            let text = string(&literal.to_string()).unwrap_or_default();
            if let Some(names) = text.trim().strip_prefix(CATCHES) {
                let names = names.split(',').map(|name| name.trim().to_owned());
                self.catches.extend(names);
                self.catches_at.get_or_insert(literal.span().start().line);
            }
        }
    }
}

/// The last word of the path an attribute begins with: `test` of `#[runtime::test(threads = 2)]`.
fn last_of_path(attribute: &Group) -> Option<String> {
    let mut last = None;
    for token in attribute.stream() {
        match token {
            TokenTree::Ident(ident) => last = Some(ident.to_string()),
            TokenTree::Punct(punct) if punct.as_char() == ':' => {}
            _ => break,
        }
    }
    last
}

/// The function after whose `fn` stands `rest`; `None` for a function pointer's type, a
/// declaration without a body, and a name that a macro makes up.
fn function(line: usize, rest: &[TokenTree], marks: &Marks) -> Option<Function> {
    let TokenTree::Ident(name) = rest.first()? else {
        return None;
    };
    let body = rest.iter().find_map(|token| match token {
        TokenTree::Group(group) if group.delimiter() == Delimiter::Brace => Some(Some(group)),
        TokenTree::Punct(punct) if punct.as_char() == ';' => Some(None),
        _ => None,
    });
    let body = body??;
    let calls_model = has(&body.stream(), &|token, next| {
        let is_called = matches!(token, TokenTree::Ident(word) if word == "model");
        is_called && matches!(next, Some(TokenTree::Group(given)) if is_body(given))
    });
    Some(Function {
        name: name.to_string(),
        line,
        lines: body.span_close().end().line - line + 1,
        is_test: marks.test,
        is_ignored: marks.ignore,
        calls_model,
        catches: marks.catches.clone(),
    })
}

/// Whether what is given to a function is a closure, or one name.
fn is_body(given: &Group) -> bool {
    let given: Vec<_> = given.stream().into_iter().collect();
    match &given[..] {
        [TokenTree::Ident(_)] => true,
        [TokenTree::Ident(word), ..] => word == "move",
        [TokenTree::Punct(mark), ..] => mark.as_char() == '|',
        _ => false,
    }
}

/// What stands between the quotes of a literal that is a string of no kind but the plain one.
fn string(literal: &str) -> Option<String> {
    let text = literal.strip_prefix('"')?.strip_suffix('"')?;
    Some(text.to_owned())
}

/// The name that is given to `planted`, after which stands `rest`: `planted!("ring.lost_slot")`.
fn planted_name(rest: &[TokenTree]) -> Option<String> {
    let [TokenTree::Punct(mark), TokenTree::Group(given), ..] = rest else {
        return None;
    };
    let name = given.stream().into_iter().next()?.to_string();
    string(&name).filter(|_| mark.as_char() == '!')
}

/// Whether `before` ends in `planted!`, so that what comes next is the name of a bug.
fn is_planted_name(before: &[TokenTree]) -> bool {
    matches!(
        before,
        [.., TokenTree::Ident(word), TokenTree::Punct(mark)]
            if word == "planted" && mark.as_char() == '!'
    )
}

/// The name of the macro after whose `macro_rules` stands `rest`, if it makes tests of names it is
/// given: if `#[test]` and `fn $name` stand in it.
fn test_maker(rest: &[TokenTree]) -> Option<String> {
    let [
        TokenTree::Punct(_),
        TokenTree::Ident(name),
        TokenTree::Group(body),
        ..,
    ] = rest
    else {
        return None;
    };
    let body = body.stream();
    let makes = has(&body, &|token, next| {
        matches!(token, TokenTree::Ident(word) if word == "fn")
            && matches!(next, Some(TokenTree::Punct(mark)) if mark.as_char() == '$')
    });
    let tests = has(&body, &|token, next| {
        let TokenTree::Punct(mark) = token else {
            return false;
        };
        let Some(TokenTree::Group(attribute)) = next else {
            return false;
        };
        mark.as_char() == '#' && last_of_path(attribute).as_deref() == Some("test")
    });
    (makes && tests).then(|| name.to_string())
}

/// Whether a token, with the one after it, is what is looked for, however deep.
fn has(stream: &TokenStream, wanted: &dyn Fn(&TokenTree, Option<&TokenTree>) -> bool) -> bool {
    let tokens: Vec<_> = stream.clone().into_iter().collect();
    tokens.iter().enumerate().any(|(index, token)| {
        let within = matches!(token, TokenTree::Group(group) if has(&group.stream(), wanted));
        within || wanted(token, tokens.get(index + 1))
    })
}

/// The words in the call of a macro, after whose name stands `rest`.
fn words_of_call(rest: &[TokenTree]) -> Vec<String> {
    let [TokenTree::Punct(_), TokenTree::Group(given), ..] = rest else {
        return Vec::new();
    };
    let word = |token| match token {
        TokenTree::Ident(word) => Some(word.to_string()),
        _ => None,
    };
    given.stream().into_iter().filter_map(word).collect()
}

fn is_unfinished(ident: &Ident, rest: &[TokenTree]) -> bool {
    let called = matches!(rest.first(), Some(TokenTree::Punct(punct)) if punct.as_char() == '!');
    called && (ident == "todo" || ident == "unimplemented")
}

/// Rust that cannot be read, and calls of macros that stand for missing code.
pub(super) fn check(file: &File) -> Vec<Finding> {
    match &file.rust {
        None => Vec::new(),
        Some(Err(error)) => {
            vec![Finding::breach(
                &file.path,
                0,
                format!("cannot be read as Rust: {error}"),
            )]
        }
        Some(Ok(rust)) => rust
            .unfinished
            .iter()
            .map(|(line, name)| {
                Finding::breach(
                    &file.path,
                    *line,
                    format!("`{name}!`: write the code, or leave it out"),
                )
            })
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_are_found_in_items_blocks_and_macros() {
        let text = "\
            impl A {\n    pub const fn in_impl(&self) -> [u8; { N }] {\n        x\n    }\n}\n\
            laws! {\n    #[test]\n    fn in_macro(x in 0..3) {}\n}\n\
            type Pointer = fn(u8) -> u8;\n\
            trait T { fn declared(); }\n";
        let rust = Rust::parse(text).unwrap();
        let found: Vec<_> = rust
            .functions
            .iter()
            .map(|f| (f.name.as_str(), f.line, f.lines, f.is_test))
            .collect();
        assert_eq!(found, [("in_impl", 2, 3, false), ("in_macro", 8, 1, true)]);
    }

    #[test]
    fn a_test_is_known_by_its_own_attributes() {
        let text = "\
            #[cfg(test)] mod tests { fn helper() {} }\n\
            #[test] /// doc\n #[ignore = \"slow\"] fn ignored() {}\n\
            #[runtime::test(threads = 2)] async fn awaited() {}\n\
            #[test] const X: u8 = 1; fn not_marked() {}\n";
        let rust = Rust::parse(text).unwrap();
        let found: Vec<_> = rust
            .functions
            .iter()
            .map(|f| (f.name.as_str(), f.is_test, f.is_ignored))
            .collect();
        assert_eq!(
            found,
            [
                ("helper", false, false),
                ("ignored", true, true),
                ("awaited", true, false),
                ("not_marked", false, false),
            ]
        );
    }

    #[test]
    fn tests_that_a_macro_makes_are_found_where_their_names_are_given() {
        let text = "\
            macro_rules! laws { ($($m:ident::$law:ident;)*) => { $(#[test] fn $law() {})* }; }\n\
            macro_rules! helpers { ($name:ident) => { fn $name() {} }; }\n\
            laws! { files::one_law; held::two_law; }\nhelpers!(no_test);\nfn no_law() {}\n";
        let rust = Rust::parse(text).unwrap();
        assert_eq!(rust.made_tests, ["files", "one_law", "held", "two_law"]);
    }

    #[test]
    fn what_a_test_catches_stands_in_its_documentation() {
        let text = "\
            /// A law.\n/// Catches: a.one, a.two\n///\n/// Catches: b.x\n\
            #[test]\nfn law() { sync::model(|| {}); }\n\
            // Catches: c.no_documentation\n#[test] fn other() { fake.model().f(model(a, b)) }\n\
            /// Catches: d.stray\nstruct S;\n/// Catches: e.stray\nmod m { fn f() {} }\n\
            /// Catches: g.stray\nfn declared();\n";
        let rust = Rust::parse(text).unwrap();
        let found: Vec<_> = rust
            .functions
            .iter()
            .map(|f| (f.name.as_str(), f.calls_model, f.catches.join(" ")))
            .collect();
        assert_eq!(
            found,
            [
                ("law", true, "a.one a.two b.x".to_owned()),
                ("other", false, String::new()),
                ("f", false, String::new()),
            ]
        );
        assert_eq!(rust.stray_catches, [9, 11, 13]);
    }

    #[test]
    fn a_planted_bug_is_found_in_code_and_is_no_string_of_it() {
        let text = "\
            /// As in `planted!(\"a.doc\")`.\nfn f() {\n\
            if pool_core::planted!(\"a.bug\") { g() }\n}\n\
            macro_rules! planted { ($name:literal) => { planted($name) }; }\n\
            fn g() { planted(\"b.call\"); x != y }\n";
        let rust = Rust::parse(text).unwrap();
        assert_eq!(rust.planted, [(3, "a.bug".to_owned())]);
        assert!(rust.strings.contains("b.call"));
        assert!(!rust.strings.contains("a.bug"));
    }

    #[test]
    fn unsafe_is_found_in_code_and_not_in_words() {
        let text = "\
            // unsafe\nconst S: &str = \"unsafe\";\n#![forbid(unsafe_code)]\n\
            m! { unsafe { f() } }\n#[unsafe(no_mangle)] fn g() {}\n";
        assert_eq!(Rust::parse(text).unwrap().unsafe_lines, [4, 5]);
    }

    #[test]
    fn code_that_is_not_there_is_a_breach() {
        let text = concat!(
            "fn a() { to",
            "do!() }\nfn b() { m!(unimple",
            "mented!()) }\nlet todo = 1;"
        );
        let tree = super::super::Tree::of(&[("a.rs", text), ("b.rs", "fn {"), ("c.md", "fn {")]);
        let lines: Vec<_> = tree
            .files()
            .iter()
            .flat_map(check)
            .map(|finding| (finding.path, finding.line))
            .collect();
        assert_eq!(
            lines,
            [
                ("a.rs".to_owned(), 1),
                ("a.rs".to_owned(), 2),
                ("b.rs".to_owned(), 0)
            ]
        );
    }
}
