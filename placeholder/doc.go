// Package placeholder turns the command that a user wrote into the command of
// one task: it replaces what stands in braces by the task's input.
//
//	{}      the input; several fields are joined by a space
//	{.}     the input without its extension: a/b.tar.gz → a/b.tar
//	{/}     its last path element: a/b.c → b.c
//	{//}    its folder: a/b.c → a, b → .
//	{/.}    its last path element without extension: a/b.c → b
//	{#}     the task's number, from 1
//	{%}     the slot that it runs in, from 1
//	{2}     the second field; {-1} the last one; {2.} {2/} {2//} {2/.} as above
//	{name}  the field in the column of that name, if the inputs have columns;
//	        {name.} {name/} {name//} {name/.} as above
//
// The meanings are GNU parallel's. A field that an input does not have is empty;
// one that no input can have is an error. Other text in braces stays as it is,
// but if there are columns, a single word in braces must be one of them. A
// command without a placeholder, {#} and {%} counting as such, gets the input
// appended, each field as an argument of its own.
//
// # Arguments and shell lines
//
// In a list of arguments values are put in as they are: no shell sees them.
//
// In a shell line no value becomes part of the line either. Each placeholder is
// replaced by a reference to a shell variable, in the quotes that its place
// needs, and the values are handed to the shell beside the line; so whatever an
// input holds, the shell never parses it, and it arrives as it is, in one piece:
// bare, in "double" or in 'single' quotes, and in $(...). Where the shell would
// evaluate or not expand a variable, a placeholder is refused: in $((...)),
// ${...} and backquotes, and after << and $'. A backslash in front of a brace,
// outside of single quotes, keeps the braces: \{}. What the line itself hands a
// value to may still evaluate it: eval, ssh, a second shell, an awk program.
package placeholder
