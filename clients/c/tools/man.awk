# man.awk -- makes one manual page of section 3 from each comment `/** name - summary ... */` and the declaration below it
# in xtrace.h.  awk -v dir=OUT -v version=V -f man.awk xtrace.h
# A line "Returns:", "Errors:" or "Thread-safety:" begins a section; other lines are the description. A comment that is
# followed by several declarations documents them all; each gets a page.

function escape(s) { gsub(/\\/, "\\e", s); gsub(/-/, "\\-", s); if (s ~ /^[.']/) s = "\\&" s; return s }

function page(fn,    file, i, section) {
    file = dir "/" fn ".3"
    print ".TH " toupper(fn) " 3 \"\" \"libxtrace " version "\" \"xtrace\"" > file
    print ".SH NAME\n" fn " \\- " escape(summary) > file
    print ".SH SYNOPSIS\n.nf\n.B #include <xtrace.h>\n" > file
    for (i = 1; i <= declarations; i++) print escape(declaration[i]) > file
    print ".fi\n.PP\nCompile and link with \\fI$(pkg\\-config \\-\\-cflags \\-\\-libs xtrace)\\fP." > file
    print ".SH DESCRIPTION" > file
    for (i = 1; i <= lines; i++) {
        if (match(line[i], /^(Returns|Errors|Thread-safety): */)) {
            section = substr(line[i], 1, index(line[i], ":") - 1)
            print ".SH " (section == "Returns" ? "RETURN VALUE" : section == "Errors" ? "ERRORS" : "THREAD SAFETY") > file
            print escape(substr(line[i], RLENGTH + 1)) > file
        } else print escape(line[i]) > file
    }
    print ".SH SEE ALSO\nThe header\n.I xtrace.h\nstates the conventions that hold for all functions." > file
    close(file)
}

function flush_pages(    i) {
    for (i = 1; i <= declarations; i++) if (names[i] != "") page(names[i])
    documented = declarations = lines = 0
}

/^\/\*\* / {
    flush_pages()
    text = substr($0, 5); ended = sub(/ *\*\/ *$/, "", text)
    summary = text; sub(/^[a-z0-9_]+ - /, "", summary)
    documented = 1; in_comment = !ended; lines = 0
    next
}
in_comment {
    text = $0; ended = sub(/ *\*\/ *$/, "", text)
    sub(/^ \* ?/, "", text)
    if (text != "") line[++lines] = text
    if (ended) in_comment = 0
    next
}
documented && /^XTRACE_API / { joined = "" }
documented && (/^XTRACE_API / || joined != "") {
    joined = joined (joined == "" ? "" : "\n") $0
    if ($0 ~ /; *$/) {
        text = joined; joined = ""
        sub(/^XTRACE_API /, "", text); gsub(/ XTRACE_MUST_CHECK/, "", text)
        declaration[++declarations] = text
        match(text, /xtrace_[a-z0-9_]+\(/)
        names[declarations] = substr(text, RSTART, RLENGTH - 1)
    }
    next
}
documented && joined == "" && declarations > 0 { flush_pages() }
END { flush_pages() }
