-- dead moves an entry to the dead letters, and tells whether it was still his who asks.
-- ARGV: reason, the entry, and which delivery of it. KEYS[5]: the dead letters.
return moved(KEYS[5], ARGV[2], tonumber(ARGV[3]), {'reason', ARGV[1], 'navvy-tried', ARGV[3]}, of_dead)
