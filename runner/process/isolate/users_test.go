package isolate_test

func holdUsers(string) int { return 0 }
func asNobody(string) int  { return 0 }
