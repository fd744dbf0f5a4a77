package pickle

// opcode is what matters of one: its argument, and what it does to the stack.
type opcode struct {
	kind  kind
	arg   argument
	above int8 // of kindToMark: how many objects there must be above the mark
	// pops and pushes are behind what the kind does.
	pops, pushes int8
}

// kind is what an opcode does beside taking objects off the stack and putting some there.
type kind uint8

const (
	kindNone  kind = iota // there is no such opcode
	kindPlain             // nothing
	kindMark              // sets a mark
	kindPop               // takes an object, or a mark, away
	kindToMark
	kindGet
	kindPut
	kindMemoize
)

// argument is what follows an opcode. Of integers it is their size in bytes.
type argument uint8

const (
	argNone  argument = 0
	argByte  argument = 1
	argShort argument = 2
	argInt   argument = 4
	argLong  argument = 8
)

const (
	argFrame        argument = iota + 16 // how many bytes follow at least
	argBytes1                            // their length first, in 1 byte
	argBytes4                            // in 4
	argBytes4Signed                      // in 4, never negative
	argBytes8
	argText1 // the same in UTF-8, in which surrogates may stand
	argText4
	argText8
	argLineInt // what follows are texts that end with a newline
	argLineLong
	argLineFloat
	argLinePlace // in the memo
	argLineQuoted
	argLineEscaped
	argLine
	argLines // two of them
)

func plain(arg argument, pops, pushes int8) opcode {
	return opcode{kind: kindPlain, arg: arg, pops: pops, pushes: pushes}
}

func toMark(above, pops, pushes int8) opcode {
	return opcode{kind: kindToMark, above: above, pops: pops, pushes: pushes}
}

// opcodes are all of Python's, but PROTO, which stands at the beginning only.
var opcodes = [256]opcode{
	// Values.
	'N': plain(argNone, 0, 1), 0x88: plain(argNone, 0, 1), 0x89: plain(argNone, 0, 1), // NONE, NEWTRUE, NEWFALSE
	'I': plain(argLineInt, 0, 1), 'L': plain(argLineLong, 0, 1), // INT, LONG
	'J': plain(argInt, 0, 1), 'K': plain(argByte, 0, 1), 'M': plain(argShort, 0, 1), // BININT, BININT1, BININT2
	0x8a: plain(argBytes1, 0, 1), 0x8b: plain(argBytes4Signed, 0, 1), // LONG1, LONG4
	'F': plain(argLineFloat, 0, 1), 'G': plain(argLong, 0, 1), // FLOAT, BINFLOAT
	'S': plain(argLineQuoted, 0, 1), 'T': plain(argBytes4Signed, 0, 1), 'U': plain(argBytes1, 0, 1), // STRING, BINSTRING, SHORT_BINSTRING
	'B': plain(argBytes4, 0, 1), 'C': plain(argBytes1, 0, 1), 0x8e: plain(argBytes8, 0, 1), // BINBYTES, SHORT_BINBYTES, BINBYTES8
	0x96: plain(argBytes8, 0, 1), 0x97: plain(argNone, 0, 1), 0x98: plain(argNone, 1, 1), // BYTEARRAY8, NEXT_BUFFER, READONLY_BUFFER
	'V': plain(argLineEscaped, 0, 1), 'X': plain(argText4, 0, 1), // UNICODE, BINUNICODE
	0x8c: plain(argText1, 0, 1), 0x8d: plain(argText8, 0, 1), // SHORT_BINUNICODE, BINUNICODE8

	// Collections.
	']': plain(argNone, 0, 1), '}': plain(argNone, 0, 1), ')': plain(argNone, 0, 1), 0x8f: plain(argNone, 0, 1), // EMPTY_LIST, _DICT, _TUPLE, _SET
	'a': plain(argNone, 2, 1), 's': plain(argNone, 3, 1), // APPEND, SETITEM
	0x85: plain(argNone, 1, 1), 0x86: plain(argNone, 2, 1), 0x87: plain(argNone, 3, 1), // TUPLE1, TUPLE2, TUPLE3
	'e': toMark(0, 1, 1), 'u': toMark(0, 1, 1), 0x90: toMark(0, 1, 1), // APPENDS, SETITEMS, ADDITEMS
	'l': toMark(0, 0, 1), 't': toMark(0, 0, 1), 'd': toMark(0, 0, 1), 0x91: toMark(0, 0, 1), // LIST, TUPLE, DICT, FROZENSET

	// The stack and the memo.
	'(': {kind: kindMark}, '0': {kind: kindPop}, '1': toMark(0, 0, 0), '2': plain(argNone, 1, 2), // MARK, POP, POP_MARK, DUP
	'g': {kind: kindGet, arg: argLinePlace, pushes: 1}, 'h': {kind: kindGet, arg: argByte, pushes: 1}, // GET, BINGET
	'j': {kind: kindGet, arg: argInt, pushes: 1},                                                                        // LONG_BINGET
	'p': {kind: kindPut, arg: argLinePlace, pops: 1, pushes: 1}, 'q': {kind: kindPut, arg: argByte, pops: 1, pushes: 1}, // PUT, BINPUT
	'r': {kind: kindPut, arg: argInt, pops: 1, pushes: 1}, 0x94: {kind: kindMemoize, pops: 1, pushes: 1}, // LONG_BINPUT, MEMOIZE

	// What is imported and called.
	'c': plain(argLines, 0, 1), 0x93: plain(argNone, 2, 1), // GLOBAL, STACK_GLOBAL
	0x82: plain(argByte, 0, 1), 0x83: plain(argShort, 0, 1), 0x84: plain(argInt, 0, 1), // EXT1, EXT2, EXT4
	'R': plain(argNone, 2, 1), 'b': plain(argNone, 2, 1), // REDUCE, BUILD
	0x81: plain(argNone, 2, 1), 0x92: plain(argNone, 3, 1), // NEWOBJ, NEWOBJ_EX
	'i': {kind: kindToMark, arg: argLines, pushes: 1}, 'o': toMark(1, 0, 1), // INST, OBJ
	'P': plain(argLine, 0, 1), 'Q': plain(argNone, 1, 1), // PERSID, BINPERSID

	opStop: plain(argNone, 1, 0),
	0x95:   plain(argFrame, 0, 0), // FRAME
}
