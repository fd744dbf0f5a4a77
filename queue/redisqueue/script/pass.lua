-- pass sees to it that somebody waits for what is due soon: he who did has got something else.
pass_on(time())
return 1
