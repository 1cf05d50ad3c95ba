package lanes

// ways are those that this processor knows.
func ways() map[string]func([]byte) sums {
	all := map[string]func([]byte) sums{"one by one": oneByOne}
	if hasTwo {
		all["two at once"] = twoAtOnce
	}
	if hasSixteen {
		all["sixteen at once"] = sixteenAtOnce
	}
	return all
}
