// Command ask asks three times with Go's client, which offers gzip and unpacks it: ask URL BODY
package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
)

func main() {
	for count := 0; count < 3; count++ {
		request, err := http.NewRequest(http.MethodPost, os.Args[1], strings.NewReader(os.Args[2]))
		if err != nil {
			panic(err)
		}
		request.Header.Set("Content-Type", "application/json")
		if count == 2 {
			request.ContentLength = -1 // in chunks
			request.Header.Set("Expect", "100-continue")
		}
		answer, err := http.DefaultClient.Do(request)
		if err != nil {
			panic(err)
		}
		body, err := io.ReadAll(answer.Body)
		if err != nil {
			panic(err)
		}
		answer.Body.Close()
		fmt.Println(answer.StatusCode, string(body))
	}
}
