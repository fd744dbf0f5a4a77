package service

// ReadAnswer reads a line of lines-json:CMD.
func ReadAnswer(line []byte) (id uint64, body []byte, failure, err error) {
	r, err := framed{}.answer(line)
	if err != nil {
		return 0, nil, nil, err
	}
	return r.id, r.body, r.err, nil
}

// Instances counts the instances of a driver that are open, and of them those that are idle.
func (d *Driver) Instances() (open, idle int) {
	d.pool.mu.Lock()
	defer d.pool.mu.Unlock()
	return len(d.pool.live), len(d.pool.idle)
}
