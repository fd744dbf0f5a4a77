// Package link reaches hosts by ssh: it signs in with the user's keys, checks whose key a host
// shows, runs commands, and has ports of a host lead here. Nothing of it knows clusters.
package link
