package service

// ReadAnswer reads a line of lines-json:CMD.
func ReadAnswer(line []byte) (id uint64, body []byte, failure, err error) {
	r, err := framed{}.answer(line)
	if err != nil {
		return 0, nil, nil, err
	}
	return r.id, r.body, r.err, nil
}
