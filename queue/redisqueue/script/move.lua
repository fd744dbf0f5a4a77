-- move puts an entry behind all others of a stream, and tells whether it was still his who
-- asks. ARGV: '1' to leave out what it has as a dead letter, the entry, and which delivery of
-- it. KEYS[5]: the stream.
return moved(KEYS[5], ARGV[2], tonumber(ARGV[3]), {}, ARGV[1] == '1' and of_dead or {})
