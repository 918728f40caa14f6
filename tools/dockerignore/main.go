// Asks moby's reader and matcher of ignore files: standard input has one JSON object a line,
// {"ignore": BASE64, "paths": [BASE64, ...]}; standard output has for each the numbers of the paths that are left
// out, or null where Docker refuses the file.
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path"

	"github.com/moby/patternmatcher"
	"github.com/moby/patternmatcher/ignorefile"
)

func judge(text []byte, paths [][]byte) ([]int, error) {
	lines, err := ignorefile.ReadAll(bytes.NewReader(text))
	if err != nil {
		return nil, err
	}
	matcher, err := patternmatcher.New(lines)
	if err != nil {
		return nil, err
	}
	out, known := []int{}, map[string]patternmatcher.MatchInfo{}
	for number, name := range paths {
		one := string(name)
		// As a walk has it: each folder first, and what matched it is handed down.
		info := patternmatcher.MatchInfo{}
		for at := 0; at < len(one); at++ {
			if one[at] != '/' {
				continue
			}
			folder := one[:at]
			if _, ok := known[folder]; !ok {
				_, found, err := matcher.MatchesUsingParentResults(folder, known[path.Dir(folder)])
				if err != nil {
					return nil, err
				}
				known[folder] = found
			}
			info = known[folder]
		}
		left, _, err := matcher.MatchesUsingParentResults(one, info)
		if err != nil {
			return nil, err
		}
		if left {
			out = append(out, number)
		}
	}
	return out, nil
}

func main() {
	scanner := bufio.NewScanner(os.Stdin)
	scanner.Buffer(nil, 1<<24)
	for scanner.Scan() {
		var one struct {
			Ignore []byte
			Paths  [][]byte
		}
		if err := json.Unmarshal(scanner.Bytes(), &one); err != nil {
			panic(err)
		}
		out, err := judge(one.Ignore, one.Paths)
		if err != nil {
			fmt.Println("null")
			fmt.Fprintln(os.Stderr, err)
			continue
		}
		answer, _ := json.Marshal(out)
		fmt.Println(string(answer))
	}
}
