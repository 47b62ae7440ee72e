module kis/pause

go 1.24.0
