package navvy

import "net/url"

// ShownURL is a URL as it may be told: without a password, and without a user's name that has
// none, which is a token where there are such (NATS). It changes nothing in u.
func ShownURL(u *url.URL) string {
	shown := *u
	if _, has := u.User.Password(); !has && u.User.Username() != "" {
		shown.User = url.User("xxxxx")
	}
	return shown.Redacted()
}
