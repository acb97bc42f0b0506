-- What Quarto's own filters do, for the constructs that the posts use: figures, tables and equations with numbers, references
-- to them, layouts, callouts, folded code. Whatever does not fit is a warning, and a warning fails the render.

local stringify = pandoc.utils.stringify
local prefixes = { fig = "Figure", tbl = "Table", eq = "Equation", sec = "Section", lst = "Listing" }
local counts = { fig = 0, tbl = 0, eq = 0, lst = 0 }
local numbers = {} -- label -> "3" or "3 (b)"
local warn = pandoc.log.warn

local function kind_of(label)
  local kind = (label or ""):match("^(%a+)%-")
  return prefixes[kind] and kind
end

local function note(label, number)
  if numbers[label] then warn("label " .. label .. " is used twice") end
  numbers[label] = number
end

local function inlines(text)
  return pandoc.utils.blocks_to_inlines(pandoc.read(text, "markdown").blocks)
end

-- Floats: figures, tables, listings -------------------------------------------------------------------------------

local float

local function grid(blocks, columns)
  local style = ("grid-template-columns: repeat(%s, minmax(0, 1fr))"):format(columns)
  return pandoc.Div(blocks, { class = "quarto-layout-panel", style = style })
end

-- Give the floats among these blocks, at any depth, the letters of their parent.
local function letter(blocks, number)
  local count = 0
  local function sub(element)
    local kind = kind_of(element.identifier)
    if kind ~= "fig" and kind ~= "tbl" then return nil end
    count = count + 1
    local mark = ("(%s)"):format(string.char(96 + count))
    return float(element, number .. " " .. mark, mark), false
  end
  return pandoc.Blocks(blocks):walk { traverse = "topdown", Figure = sub, Div = sub }
end

-- The caption of a div is its last paragraph, the attribute, or the caption of the table within.
local function take_caption(div, kind)
  local last = div.content[#div.content]
  if last and last.t == "Para" and #div.content > 1 then
    div.content:remove()
    return last.content
  elseif div.attributes[kind .. "-cap"] then
    return inlines(div.attributes[kind .. "-cap"])
  end
  local caption
  div.content = div.content:walk {
    Table = function(element)
      if caption or #element.caption.long == 0 then return nil end
      caption = pandoc.utils.blocks_to_inlines(element.caption.long)
      element.caption.long = {}
      return element
    end,
  }
  return caption
end

local function is_output(block)
  return block.t == "Div" and block.classes:includes("cell-output-display")
end

function float(element, number, mark)
  local label, kind = element.identifier, kind_of(element.identifier)
  local code = pandoc.Blocks {}
  local caption, content
  if not number then
    counts[kind] = counts[kind] + 1
    number = tostring(counts[kind])
  end
  note(label, number)
  if element.t == "Figure" then
    caption, content = pandoc.utils.blocks_to_inlines(element.caption.long), element.content
  elseif element.t == "Table" then
    caption = pandoc.utils.blocks_to_inlines(element.caption.long)
    element.caption.long = {}
    element.identifier = ""
    content = pandoc.Blocks { element }
  else
    caption, content = take_caption(element, kind), element.content
    if element.classes:includes("cell") then
      code, content = content:filter(function(b) return not is_output(b) end), content:filter(is_output)
    end
    content = letter(content, number)
    if element.attributes["layout-ncol"] then content = pandoc.Blocks { grid(content, element.attributes["layout-ncol"]) } end
  end
  if not caption or #caption == 0 then
    if not mark then warn("label " .. label .. " has no caption") end
    caption = pandoc.Inlines {}
  end
  local title = pandoc.Inlines(mark and mark .. " " or ("%s %s: "):format(prefixes[kind], number))
  title:extend(caption)
  local figure = pandoc.Figure(content, { long = { pandoc.Plain(title) } },
    pandoc.Attr(label, { "quarto-float", "quarto-float-" .. kind }))
  if #code == 0 then return figure end
  code:insert(figure)
  return pandoc.Div(code, { class = "cell" })
end

local function maybe_float(element)
  local kind = kind_of(element.identifier)
  if kind == "fig" or kind == "tbl" or (kind == "lst" and element.t == "Div") then return float(element), false end
end

local floats = {
  traverse = "topdown",
  Figure = maybe_float,
  Table = maybe_float,
  Div = function(div)
    local made, stop = maybe_float(div)
    if made then return made, stop end
    if div.attributes["layout-ncol"] then
      local code = div.content:filter(function(b) return b.t == "CodeBlock" end)
      code:insert(grid(div.content:filter(function(b) return b.t ~= "CodeBlock" end), div.attributes["layout-ncol"]))
      div.content, div.attributes["layout-ncol"] = code, nil
      return div
    end
  end,
}

-- Equations and sections -------------------------------------------------------------------------------------------

local sections = { 0, 0, 0, 0, 0, 0 }

local labels = {
  Inlines = function(list)
    local made = pandoc.Inlines {}
    for _, item in ipairs(list) do
      local label = item.t == "Str" and item.text:match("^{#(eq%-[%w-_]+)}$")
      if label then
        repeat
          local last = made:remove()
          if not last then return nil end
          item = last
        until item.t == "Math"
        counts.eq = counts.eq + 1
        note(label, tostring(counts.eq))
        local number = pandoc.Span("(" .. counts.eq .. ")", { class = "eq-number" })
        item = pandoc.Span({ item, number }, { id = label, class = "equation" })
      end
      made:insert(item)
    end
    return made
  end,
  Header = function(header)
    if header.classes:includes("unnumbered") then return nil end
    sections[header.level] = sections[header.level] + 1
    for level = header.level + 1, 6 do sections[level] = 0 end
    if kind_of(header.identifier) == "sec" then
      note(header.identifier, table.concat(sections, ".", sections[1] > 0 and 1 or 2, header.level))
    end
  end,
}

local references = {
  Cite = function(cite)
    local made = pandoc.Inlines {}
    for _, citation in ipairs(cite.citations) do
      local label = citation.id:sub(1, 1):lower() .. citation.id:sub(2)
      local kind = kind_of(label)
      if not kind then return nil end
      if not numbers[label] then warn("nothing has the label @" .. citation.id) end
      local text = numbers[label] or "?"
      if #citation.prefix > 0 then
        text = stringify(citation.prefix) .. "\u{a0}" .. text
      elseif citation.mode ~= "SuppressAuthor" then
        text = prefixes[kind] .. "\u{a0}" .. text
      end
      if #made > 0 then made:extend { pandoc.Str ",", pandoc.Space() } end
      made:insert(pandoc.Link(text, "#" .. label, "", { class = "quarto-xref" }))
    end
    return made
  end,
}

-- Callouts, code, pictures -----------------------------------------------------------------------------------------

local function html(text) return pandoc.RawBlock("html", text) end

local function callout(div)
  local class = div.classes:find_if(function(c) return c:match("^callout%-%l+$") end)
  if not class then return nil end
  local kind = class:match("^callout%-(%l+)$")
  if not ("note tip warning important caution"):find(kind, 1, true) then warn("there is no callout-" .. kind) end
  local title = div.attributes.title and inlines(div.attributes.title)
  local first = div.content[1]
  if not title and first and first.t == "Header" then title = div.content:remove(1).content end
  title = pandoc.Plain(title or kind:gsub("^%l", string.upper))
  local body = pandoc.Div(div.content, { class = "callout-body" })
  local classes = "callout callout-" .. kind
  if div.attributes.collapse == nil then
    return pandoc.Div({ pandoc.Div({ title }, { class = "callout-title" }), body }, { id = div.identifier, class = classes })
  end
  local open = div.attributes.collapse == "false" and " open" or ""
  return { html(('<details class="%s"%s><summary class="callout-title">'):format(classes, open)), title,
    html("</summary>"), body, html("</details>") }
end

local function code_block(block)
  local fold, summary, file = block.attributes["code-fold"], block.attributes["code-summary"], block.attributes.filename
  block.attributes = {}
  local made = pandoc.Blocks { block }
  if file then
    made = pandoc.Blocks { pandoc.Div({
      pandoc.Div({ html("<pre><strong>" .. file:gsub("[&<]", { ["&"] = "&amp;", ["<"] = "&lt;" }) .. "</strong></pre>") },
        { class = "code-with-filename-file" }), block }, { class = "code-with-filename" }) }
  end
  if fold and fold ~= "false" then
    made:insert(1, html(('<details class="code-fold"%s><summary>'):format(fold == "show" and " open" or "")))
    made:insert(2, pandoc.Plain(summary and inlines(summary) or "Code"))
    made:insert(3, html("</summary>"))
    made:insert(html("</details>"))
  end
  return made
end

local function picture(image)
  local alt = image.attributes["fig-alt"] or image.attributes.alt or stringify(image.caption)
  image.attributes["fig-alt"] = nil
  image.attributes.alt = alt
  if alt == "" then warn("picture " .. image.src .. " has no alt text") end
  if image.src:match("^data:") then return image end
  if image.src:match("^%a+://") then
    warn("picture " .. image.src .. " is on another host")
    return image
  end
  local file = io.open((image.src:gsub("%%20", " ")), "rb")
  if not file then
    warn("picture " .. image.src .. " is missing")
    return image
  end
  local ok, size = pcall(pandoc.image.size, file:read("a"))
  file:close()
  if ok and not (image.attributes.width or image.attributes.height) then
    image.attributes.width, image.attributes.height = tostring(size.width), tostring(size.height)
  end
  image.attributes.loading = "lazy"
  return image
end

return { floats, labels, references, { Div = callout, CodeBlock = code_block, Image = picture } }
