//! README.md shows the program that is also an example, letter for letter.

#[test]
fn the_program_in_the_readme_is_the_example() {
    let readme = include_str!("../../README.md");
    let program = include_str!("../examples/first.rs");
    assert!(readme.contains(program), "README.md and examples/first.rs differ");
}
